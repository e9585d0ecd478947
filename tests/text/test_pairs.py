"""Sentence pairs: what is held out, how verses split into clauses, the cache, and the reader of JSON lines."""

import os
import warnings
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib import paths
from lib.errors import UserError
from lib.ordering import hash_order
from lib.text import bible, cards, metrics, pairs, verses

FIXTURES = Path(__file__).parents[1] / "fixtures" / "pairs"
BOTH = pytest.mark.parametrize("whole", [False, True], ids=["short", "whole"])


@pytest.fixture(scope="module")
def real():
    return {False: verses.PARAPHRASE.load(), True: verses.PARAPHRASE_WHOLE.load()}


@pytest.fixture(scope="module")
def rows(real):
    return {whole: {split: sets[split].to_pandas() for split in pairs.SPLITS} for whole, sets in real.items()}


@BOTH
def test_sizes_and_lengths(rows, whole):
    longest = 40 if whole else 16
    assert [len(rows[whole][split]) for split in ("validation", "test")] == [500, 500]
    assert len(rows[whole]["train"]) > 100_000
    for table in rows[whole].values():
        for side in ("src", "trg"):
            assert (table[side].str.count(" ") + 1).between(4, longest).all()
    for split in ("test", "validation"):
        assert set(rows[whole][split]["version"] + " " + rows[whole][split]["kind"]) == {"kjv verse"}


def test_a_held_out_verse_is_in_no_training_row_of_either_reading(rows):
    held_out = [tables[split] for tables in rows.values() for split in ("test", "validation")]
    verses = {verse for table in held_out for verse in table["group"]}
    texts = {text for table in held_out for text in (*table["src"], *table["trg"])}
    for tables in rows.values():
        assert not verses & {*tables["train"]["group"]}
        assert not texts & {*tables["train"]["src"], *tables["train"]["trg"]}


def test_the_splits_share_no_verse_and_no_text(rows):
    for tables in rows.values():
        texts = [{*pair} for split in ("test", "validation") for pair in tables[split][["src", "trg"]].values.tolist()]
        assert sum(map(len, texts)) == len(set().union(*texts))
    tests, validation = ({v for whole in rows for v in rows[whole][split]["group"]} for split in ("test", "validation"))
    assert not tests & validation


def test_rows_come_from_their_verse(rows):
    texts = {name: bible.verses(name) for name in ("kjv", "web")}
    for row in rows[False]["test"].itertuples():
        assert row.src == bible.normalise(texts["kjv"][row.group])
        assert row.trg == bible.normalise(texts["web"][row.group])
    train = rows[False]["train"]
    for row in train[train["version"] == "kjv"].iloc[::500].itertuples():
        assert row.src in bible.normalise(texts["kjv"][row.group])
        assert row.trg in bible.normalise(texts["web"][row.group])


def test_the_order_of_verses_is_fixed():
    assert hash_order(range(5)) == hash_order(reversed(range(5))) == [4, 3, 0, 1, 2]


def test_the_data_have_not_changed(real):
    # Changes whenever a row does: then records are stale, and the test set is another.
    assert pairs.content_hash(real[False])[:16] == "db8ce29516db71ae"
    assert pairs.content_hash(real[True])[:16] == "397537662b18c061"


def test_the_card_shows_how_far_copying_goes(real):
    chosen = pairs.subset(real[False], 200)
    card = cards.card(chosen)
    copied = metrics.bleu(chosen.sources("test"), chosen.targets("test")).mean()
    assert card.loc["test", "copy BLEU"] == pytest.approx(copied, abs=1e-12)
    assert 0.45 < copied < 0.55
    assert card.loc["test", "source words"].endswith("/ 16")
    assert list(card["pairs"]) == [200, 500, 500]
    assert card["licence"].str.contains("public domain").all()


def split(source, target):
    return [(" ".join(a), " ".join(b)) for a, b in verses.clauses(source.split(), target.split())]


def test_clauses_split_at_strong_marks_and_join_up_to_sixteen_words():
    source = "and he went up into the hill , and prayed there ; and in the morning he came down . then he slept ."
    target = "he went up the hill and prayed there . in the morning he came down ; then he slept ."
    assert split(source, target) == [
        ("and he went up into the hill , and prayed there ;", "he went up the hill and prayed there ."),
        ("and in the morning he came down . then he slept .", "in the morning he came down ; then he slept ."),
    ]


def test_clauses_go_down_to_commas_where_both_sides_have_as_many():
    one, two = "one two three four five six seven eight nine ,", "ten eleven twelve thirteen fourteen fifteen sixteen ."
    assert split(f"{one} {two}", f"{one} {two}") == [(one, one), (two, two)]
    assert split(f"{one} {two}", f"{one} but {two.replace('twelve', 'twelve , yes ,')}") == []


LAMPS = "the lamps were lit in every house of the old walled town that night ;"


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("a stranger came to our door asking for bread .", "nobody knew whose hand had written those letters ."),
        ("he slept .", "he slept ."),
        ("they went home in peace .", "they went home to their own people in the hills beyond the great river ."),
        ("so " * 16 + ".", "so " * 16 + "."),
    ],
    ids=["nothing in common", "three words", "more than twice as long", "seventeen words"],
)
def test_clauses_leave_out_what_does_not_fit(source, target):
    assert split(f"{LAMPS} {source} {LAMPS}", f"{LAMPS} {target} {LAMPS}") == [(LAMPS, LAMPS)] * 2


verse = st.lists(st.sampled_from(["so", "we", "went", "on", ",", ";", "."]), min_size=1, max_size=40)


@given(verse, verse)
def test_clauses_are_consecutive_pieces_of_both_sides(source, target):
    ends = [0, 0]
    for pair in verses.clauses(source, target):
        assert verses.aligned(*pair)
        for side, (whole, part) in enumerate(zip((source, target), pair, strict=True)):
            assert 4 <= len(part) <= 16
            starts = range(ends[side], len(whole) - len(part) + 1)
            start = next(
                i for i in starts if whole[i : i + len(part)] == part
            )  # StopIteration: not there, or out of order
            ends[side] = start + len(part)


@given(verse)
def test_a_verse_splits_like_itself(source):
    assert all(left == right for left, right in verses.clauses(source, source))


def test_overlap_is_the_f1_of_shared_words():
    assert verses.overlap(["a", "b", "a", "."], ["a", "c", "."]) == pytest.approx(2 * 1 / (3 + 2))
    assert verses.overlap([","], ["."]) == 0.0


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Four splits' worth of verses, a cache of their own, and a count of how often the set is built."""
    texts = {v: {i: f"{v} says verse {i} of {i} ." for i in range(12)} for v in bible.VERSIONS}
    texts["asv"][13] = texts["web"][13] = "one verse that stands in two books ."
    texts["asv"][14] = texts["web"][14] = "one verse that stands in two books ."
    for version in bible.VERSIONS:
        (tmp_path / version).write_text(version)
    built = []
    monkeypatch.setenv("REPRODUCTION_WORK_ROOT", str(tmp_path / "work"))
    monkeypatch.setattr(bible, "source", lambda version: tmp_path / version)
    monkeypatch.setattr(bible, "verses", lambda version: built.append(version) or texts[version])
    monkeypatch.setattr(verses, "HELD_OUT", 2)
    return tmp_path, built, texts


def test_a_verse_is_held_out_in_all_its_translations(small):
    chosen = verses.PARAPHRASE.load()
    held_out = {*chosen["test"]["group"], *chosen["validation"]["group"]}
    assert (chosen["test"]["group"][:], chosen["validation"]["group"][:]) == ([9, 8], [5, 6])
    for version, others in (("kjv", set()), ("asv", {13})):
        rows = chosen["train"].to_pandas()
        assert set(rows[rows.version == version].group) == set(range(12)) - held_out | others
    assert chosen.dropped == {"text_of_a_held_out_verse": 0, "repeated_pair": 1}


def test_a_training_row_with_the_text_of_a_held_out_verse_is_dropped(small):
    small[2]["asv"][7] = small[2]["web"][9]  # verse 9 is in the test split
    chosen = verses.PARAPHRASE.load()
    assert chosen.dropped["text_of_a_held_out_verse"] == 1
    assert ("asv", 7) not in set(zip(chosen["train"]["version"], chosen["train"]["group"], strict=True))


def test_the_cache_is_read_when_current_and_built_again_when_the_source_changes(small):
    tmp_path, built, _ = small
    first = pairs.content_hash(verses.PARAPHRASE.load())
    assert len(built) == 3
    with warnings.catch_warnings(action="error"):
        assert pairs.content_hash(verses.PARAPHRASE.load()) == first
        assert len(built) == 3
        (tmp_path / "asv").write_text("another edition")
        verses.PARAPHRASE.load()
    assert len(built) == 6


@pytest.mark.parametrize("name", ["train.parquet", "test.parquet", "manifest.json"])
@pytest.mark.parametrize("damage", ["truncated", "edited", "missing"])
def test_a_damaged_cache_is_named_and_built_again(small, name, damage):
    _, built, _ = small
    intact = verses.PARAPHRASE.load()
    file = paths.cache() / "datasets" / "paraphrase" / name
    content = file.read_bytes()
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(content[: len(content) // 2] if damage == "truncated" else b"[]" + content[2:])
    if (name, damage) == ("manifest.json", "missing"):
        again = verses.PARAPHRASE.load()  # nothing says that there was a copy
    else:
        with pytest.warns(UserWarning, match=r"datasets/paraphrase is damaged .*built again"):
            again = verses.PARAPHRASE.load()
    assert len(built) == 6
    assert pairs.content_hash(again) == pairs.content_hash(intact)
    assert file.read_bytes() == content


def test_the_content_hash_sees_each_word_split_and_order(small):
    chosen = verses.PARAPHRASE.load()
    changed = [
        chosen.splits | {"test": chosen["validation"], "validation": chosen["test"]},
        chosen.splits | {"train": chosen["train"].select(reversed(range(len(chosen["train"]))))},
        chosen.splits | {"test": chosen["test"].map(lambda row: {"trg": row["trg"] + " !"})},
        chosen.splits | {"test": chosen["test"].rename_columns({"src": "trg", "trg": "src"})},
    ]
    hashes = {pairs.content_hash(pairs.replace(chosen, splits=splits)) for splits in [chosen.splits, *changed]}
    assert len(hashes) == 5


def test_subsets_are_nested_and_fixed(real):
    small, large = pairs.subset(real[False], 100, held_out=20), pairs.subset(real[False], 400, held_out=50)
    rows = [set(zip(one.sources("train"), one.targets("train"), strict=True)) for one in (small, large)]
    assert [len(one) for one in rows] == [100, 400]
    assert rows[0] < rows[1]
    assert small.sources("test") == real[False].sources("test")[:20]
    assert len(large["validation"]) == 50
    assert pairs.content_hash(small) == pairs.content_hash(pairs.subset(large, 100, held_out=20))


def test_json_lines_in_the_papers_layout():
    rows = pairs.read_jsonl(FIXTURES / "good.jsonl")
    assert rows.column_names == ["src", "trg"]
    assert rows["src"][:] == ["how do trees drink ?", "who bakes tomorrow's bread ?", "is tea older than coffee ?"]
    assert rows["trg"][1] == "wer backt das brot für morgen ?"


def test_json_lines_with_a_byte_order_mark_and_foreign_line_ends(tmp_path):
    (tmp_path / "windows.jsonl").write_bytes(b'\xef\xbb\xbf{"src": "a", "trg": "b"}\r\n{"src": "c", "trg": "d"}\r\n')
    assert pairs.read_jsonl(tmp_path / "windows.jsonl")["src"][:] == ["a", "c"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none.jsonl", r"none\.jsonl: No such file or directory; check the path"),
        ("empty.jsonl", r"empty\.jsonl: no sentence pairs; write one"),
        ("missing_field.jsonl", r'missing_field\.jsonl, line 2: no field "trg" \(found: src\); rename or add it'),
        ("other_keys.jsonl", r'line 1: no field "src" \(found: question1, question2\); rename'),
        ("broken_line.jsonl", r"broken_line\.jsonl, line 2: broken JSON \(.*column \d+\); mend or remove"),
        ("empty_source.jsonl", r'empty_source\.jsonl, line 3: field "src" is empty; fill it'),
        ("number.jsonl", r'line 1: field "trg" is a number where a text is expected; put'),
        ("list.jsonl", r"record 1 \(line 1\): not a JSON object but a text; write"),
        ("latin1.jsonl", r"latin1\.jsonl, line 1 \(byte 13\): not UTF-8; save the file as UTF-8"),
    ],
)
def test_bad_json_lines_are_one_readable_line(name, message):
    with pytest.raises(UserError, match=message) as caught:
        pairs.read_jsonl(FIXTURES / name)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("tests/fixtures/pairs/")


def of_rows(**splits):
    """A set of given (source, target) pairs."""
    data = {
        split: pairs.Dataset(
            pairs.pa.Table.from_pylist([{"src": s, "trg": t} for s, t in splits.get(split, [("a", "b")])])
        )
        for split in pairs.SPLITS
    }
    return pairs.PairSet("x", pairs.DatasetDict(data), "", {"kept": 1})


def test_long_pairs_lose_words_at_the_end_of_the_longer_side_until_both_fit_together():
    rows = [("a b c d e f g h", "i j"), ("aa bb", "cc dd ee ff"), ("a" * 30, "b" * 30), ("a b", "c")]
    cut = pairs.shortened(
        of_rows(train=rows, test=[("a b c d e f", "g h i j k l m")]), lambda text: len(text.split()), 5
    )
    assert list(zip(cut.sources("train"), cut.targets("train"), strict=True)) == [
        ("a b c", "i j"),
        ("aa bb", "cc dd ee"),
        ("a" * 30, "b" * 30),
        ("a b", "c"),
    ]
    assert (cut.sources("test"), cut.targets("test")) == (["a b"], ["g h i j k l m"])
    told = {f"shortened in {split}": count for split, count in (("train", 2), ("validation", 0), ("test", 1))}
    assert cut.dropped == {"kept": 1, **told}


def test_a_word_counts_as_many_tokens_as_it_has_pieces():
    cut = pairs.shortened(of_rows(train=[("abc de fghi", "jk lmnop")]), lambda text: len(text.replace(" ", "")), 9)
    assert (cut.sources("train"), cut.targets("train")) == (["abc de"], ["jk"])


@pytest.mark.skipif("BENCHMARK_DIR" not in os.environ, reason="BENCHMARK_DIR is not set: no slices of the paper's data")
def test_a_slice_of_the_papers_data():
    rows = pairs.read_jsonl(Path(os.environ["BENCHMARK_DIR"]) / "qqp_sample.jsonl")
    assert len(rows) > 0
    assert all(row["src"] and row["trg"] for row in rows)
