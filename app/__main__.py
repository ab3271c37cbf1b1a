"""`python -m trinas_app` is `trinas-upscale`."""

from .cli import main

if __name__ == "__main__":
    main()
