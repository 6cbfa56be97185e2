"""The command line: translates words into requests, calls the application, and writes down what it answers."""
