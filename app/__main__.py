"""`python -m trinas_app` runs `trinas-upscale`."""

from .cli import main

if __name__ == "__main__":
    main()
