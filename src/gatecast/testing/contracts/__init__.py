"""What every storage must do: suites that run on each of them."""
