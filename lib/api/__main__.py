"""`python -m lib.api`, in a checkout what `wang-li` is after `pip install .`."""

from lib.api.command import run

if __name__ == "__main__":
    run()
