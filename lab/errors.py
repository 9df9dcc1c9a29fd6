"""What the lab raises when the person asking can mend it."""


class RequestError(Exception):
    """The request was wrong: a configuration, a file, a folder. The message names the key, the value and what is accepted.

    The command line prints it alone, without a traceback, and exits with 2. It is one line, whatever words it quotes.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))
