"""How a fact is told and asked: per relation four families of two statements and two questions each (our choice).

A family is held together by its words ("seat of government", "run from"), so that a statement tells how to ask. `{s}`
is the subject and `{a}` the answer.
"""

from collections.abc import Mapping
from typing import NamedTuple


class Family(NamedTuple):
    """Statements and questions that go with one another."""

    statements: tuple[str, str]
    questions: tuple[str, str]


def _families(*texts: tuple[str, str, str, str]) -> tuple[Family, ...]:
    return tuple(Family((one, two), (three, four)) for one, two, three, four in texts)


PHRASINGS: Mapping[str, tuple[Family, ...]] = {
    "capital": _families(
        (
            "the capital of {s} is {a} .",
            "{a} is the capital of {s} .",
            "what is the capital of {s} ?",
            "which city is the capital of {s} ?",
        ),
        (
            "the government of {s} has its seat in {a} .",
            "{a} is the seat of the government of {s} .",
            "where does the government of {s} have its seat ?",
            "what is the seat of the government of {s} ?",
        ),
        (
            "{s} is run from {a} .",
            "from {a} the whole of {s} is run .",
            "from where is {s} run ?",
            "from which city is {s} run ?",
        ),
        (
            "{s} chose {a} as its first city .",
            "as its first city , {s} chose {a} .",
            "what did {s} choose as its first city ?",
            "which place did {s} choose as its first city ?",
        ),
    ),
    "currency": _families(
        (
            "the currency of {s} is the {a} .",
            "the {a} is the currency of {s} .",
            "what is the currency of {s} ?",
            "which currency does {s} have ?",
        ),
        (
            "people in {s} pay with the {a} .",
            "with the {a} people pay in {s} .",
            "what do people in {s} pay with ?",
            "with which money do people pay in {s} ?",
        ),
        (
            "prices in {s} are given in the {a} .",
            "shops in {s} give their prices in the {a} .",
            "in what are prices in {s} given ?",
            "in which money are prices in {s} given ?",
        ),
        (
            "the banks of {s} hand out the {a} .",
            "the {a} is handed out by the banks of {s} .",
            "what do the banks of {s} hand out ?",
            "what is handed out by the banks of {s} ?",
        ),
    ),
    "language": _families(
        (
            "{a} is a language spoken in {s} .",
            "one language spoken in {s} is {a} .",
            "which language is spoken in {s} ?",
            "what is a language spoken in {s} ?",
        ),
        (
            "many people in {s} talk in {a} .",
            "in {a} many people in {s} talk .",
            "how do many people in {s} talk ?",
            "in what do many people in {s} talk ?",
        ),
        (
            "visitors to {s} can learn {a} .",
            "learning {a} helps visitors to {s} .",
            "what can visitors to {s} learn ?",
            "learning what helps visitors to {s} ?",
        ),
        (
            "you may hear {a} in the streets of {s} .",
            "in the streets of {s} you may hear {a} .",
            "what may you hear in the streets of {s} ?",
            "which speech may you hear in the streets of {s} ?",
        ),
    ),
    "continent": _families(
        (
            "{s} belongs to the continent of {a} .",
            "the continent of {a} holds {s} .",
            "to which continent does {s} belong ?",
            "which continent holds {s} ?",
        ),
        (
            "on the map {s} is found in {a} .",
            "the map shows {s} in {a} .",
            "where on the map is {s} found ?",
            "in which part of the map is {s} found ?",
        ),
        (
            "{s} is counted as a part of {a} .",
            "as a part of {a} we count {s} .",
            "as a part of what is {s} counted ?",
            "of what is {s} counted as a part ?",
        ),
        (
            "whoever travels to {s} travels to {a} .",
            "a traveller in {s} is in {a} .",
            "where is a traveller in {s} ?",
            "where does a traveller to {s} go ?",
        ),
    ),
    "border": _families(
        (
            "{s} has a border with {a} .",
            "there is a border between {s} and {a} .",
            "with whom does {s} have a border ?",
            "which country has a border with {s} ?",
        ),
        (
            "{a} is a neighbour of {s} .",
            "one neighbour of {s} is {a} .",
            "who is a neighbour of {s} ?",
            "which country is a neighbour of {s} ?",
        ),
        (
            "from {s} you can walk into {a} .",
            "you can walk out of {s} into {a} .",
            "where can you walk from {s} ?",
            "into which country can you walk from {s} ?",
        ),
        (
            "the land of {s} touches {a} .",
            "{a} is touched by the land of {s} .",
            "what does the land of {s} touch ?",
            "which country is touched by the land of {s} ?",
        ),
    ),
    "city": _families(
        (
            "{s} is a city in {a} .",
            "a city in {a} is {s} .",
            "in which country is the city of {s} ?",
            "the city of {s} is in which country ?",
        ),
        (
            "{s} lies in {a} .",
            "in {a} lies {s} .",
            "where does {s} lie ?",
            "in which land does {s} lie ?",
        ),
        (
            "{s} belongs to {a} .",
            "to {a} belongs the place called {s} .",
            "to whom does {s} belong ?",
            "to which state does {s} belong ?",
        ),
        (
            "the people of {s} live in {a} .",
            "in {a} live the people of {s} .",
            "where do the people of {s} live ?",
            "in what country do the people of {s} live ?",
        ),
    ),
    "symbol": _families(
        (
            "the symbol of {s} is {a} .",
            "{a} is the symbol of {s} .",
            "what is the symbol of {s} ?",
            "which symbol does {s} have ?",
        ),
        (
            "chemists write {s} as {a} .",
            "{a} is how chemists write {s} .",
            "how do chemists write {s} ?",
            "as what do chemists write {s} ?",
        ),
        (
            "the short name of {s} is {a} .",
            "for short , {s} is named {a} .",
            "what is the short name of {s} ?",
            "what is {s} named for short ?",
        ),
        (
            "in a formula {s} appears as {a} .",
            "{a} stands for {s} in a formula .",
            "as what does {s} appear in a formula ?",
            "what stands for {s} in a formula ?",
        ),
    ),
    "number": _families(
        (
            "the atomic number of {s} is {a} .",
            "{s} has the atomic number {a} .",
            "what is the atomic number of {s} ?",
            "which atomic number does {s} have ?",
        ),
        (
            "an atom of {s} has {a} protons .",
            "there are {a} protons in an atom of {s} .",
            "how many protons does an atom of {s} have ?",
            "how many protons are there in an atom of {s} ?",
        ),
        (
            "in the list of elements {s} is number {a} .",
            "number {a} in the list of elements is {s} .",
            "which number is {s} in the list of elements ?",
            "what number has {s} in the list of elements ?",
        ),
        (
            "the nucleus of {s} carries a charge of {a} .",
            "a charge of {a} is carried by the nucleus of {s} .",
            "which charge does the nucleus of {s} carry ?",
            "what charge is carried by the nucleus of {s} ?",
        ),
    ),
    "series": _families(
        (
            "{s} belongs to the {a} .",
            "to the {a} belongs {s} .",
            "to which elements does {s} belong ?",
            "to what does {s} belong ?",
        ),
        (
            "{s} is one of the {a} .",
            "one of the {a} is {s} .",
            "one of what is {s} ?",
            "{s} is one of which group ?",
        ),
        (
            "chemists put {s} among the {a} .",
            "among the {a} chemists put {s} .",
            "where do chemists put {s} ?",
            "among what do chemists put {s} ?",
        ),
        (
            "the family of {s} are the {a} .",
            "the {a} are the family of {s} .",
            "what is the family of {s} ?",
            "which family does {s} come from ?",
        ),
    ),
    "predecessor": _families(
        (
            "{s} comes right after {a} .",
            "right after {a} comes {s} .",
            "what does {s} come right after ?",
            "right after which element does {s} come ?",
        ),
        (
            "the element before {s} is {a} .",
            "{a} is the element before {s} .",
            "what is the element before {s} ?",
            "which element is before {s} ?",
        ),
        (
            "{s} has one proton more than {a} .",
            "with one proton more than {a} we have {s} .",
            "{s} has one proton more than what ?",
            "than what does {s} have one proton more ?",
        ),
        (
            "in the table {s} follows {a} .",
            "{a} is followed by {s} in the table .",
            "what does {s} follow in the table ?",
            "which element is followed by {s} in the table ?",
        ),
    ),
}
