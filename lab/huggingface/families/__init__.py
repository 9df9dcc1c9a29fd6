"""One file a family of published models; being here is all that it takes to be known."""
