"""One file a verb: HELP, its lines in `lab --help`, and `main(arguments) -> exit code`."""
