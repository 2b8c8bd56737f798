"""Run the command line as `python -m backupd`."""

from backupd.cli.main import run

if __name__ == "__main__":
    run()
