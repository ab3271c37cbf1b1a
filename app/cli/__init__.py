"""The command line. Commands parse, call the library and print. torch is only imported when work begins.

Read it in this order:

    root        the program `trinas-upscale`: its commands, --version, and how errors end
    options     options that several commands have
    terminal    messages and tables
    progress    progress of images, downloads, trainings and searches
    upscale     upscale images; dry_run says what a run would do
    compare, evaluate, devices, models, data, export, web
    train       train a network
    search      search for a network; reproduce a search
    runs        what train and search share: stopping and resuming
"""

from .root import cli, main

__all__ = ["cli", "main"]
