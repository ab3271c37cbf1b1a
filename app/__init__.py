"""The application: command line (and later the web page) over the library `trinas`."""
