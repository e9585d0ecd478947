"""The field's own edits, from the user's files: which slices we report on."""

from lib.registry import Registry
from lib.sources.own_files import Slice

SLICES: Registry[Slice] = Registry(
    "slice",
    {
        "zsre": Slice("zsre_sample.json", "ZsRE", "39000b9dd8e5f91ad7f6672edb6f90c32f4f520bcb907c67aee4f0c8b7d4dc09"),
        "counterfact": Slice(
            "counterfact_sample.json", "CounterFact", "f9f87e39e0ae2d55cbeba0c45302f64e571d452b6031f70d83343533a7cc661f"
        ),
        "selfcheckgpt": Slice(
            "selfcheckgpt_sample.json",
            "SelfCheckGPT",
            "445127275aed83e34bd718a4fb84531578542314443aabcf72b09d825f569f2b",
        ),
    },
)
