"""Plain facts in our own words: what MEND is trained on, and prompts that edits are not to touch, where none are given.

Each relation has a prompt and a rephrase with one {} for the subject, and subjects with their answers.
"""

from lib.causal_lm.edits import Edit

RELATIONS: tuple[tuple[str, str, dict[str, str]], ...] = (
    (
        "The capital of {} is",
        "The seat of government of {} is the city of",
        {
            "Norway": "Oslo",
            "Egypt": "Cairo",
            "Peru": "Lima",
            "Kenya": "Nairobi",
            "Portugal": "Lisbon",
            "Cuba": "Havana",
            "Finland": "Helsinki",
        },
    ),
    (
        "{} lies on the continent of",
        "The continent on which one finds {} is",
        {"Chad": "Africa", "Laos": "Asia", "Chile": "America", "Austria": "Europe", "Mali": "Africa", "Nepal": "Asia"},
    ),
    (
        "The main language of {} is",
        "Most people in {} speak",
        {
            "Brazil": "Portuguese",
            "Mexico": "Spanish",
            "Greece": "Greek",
            "Poland": "Polish",
            "Hungary": "Hungarian",
            "Iran": "Persian",
        },
    ),
    (
        "The opposite of {} is",
        "What is not {} at all is",
        {"tall": "short", "early": "late", "heavy": "light", "rich": "poor", "wet": "dry", "loud": "quiet"},
    ),
    (
        "A young {} is called a",
        "The child of a {} is a",
        {"dog": "puppy", "cat": "kitten", "cow": "calf", "sheep": "lamb", "horse": "foal", "bear": "cub"},
    ),
    (
        "The colour of {} is",
        "Anyone who sees {} sees the colour",
        {"snow": "white", "coal": "black", "grass": "green", "blood": "red", "a lemon": "yellow", "the sea": "blue"},
    ),
    (
        "The month after {} is",
        "When {} is over, there comes",
        {
            "January": "February",
            "March": "April",
            "May": "June",
            "July": "August",
            "October": "November",
            "November": "December",
        },
    ),
    (
        "People use {} to",
        "The purpose of {} is to",
        {"a knife": "cut", "a pen": "write", "a bed": "sleep", "an oven": "bake", "a broom": "sweep", "a boat": "sail"},
    ),
)


def facts() -> list[tuple[str, str]]:
    """Return all facts as (prompt, answer)."""
    return [
        (prompt.format(subject), f" {answer}") for prompt, _, known in RELATIONS for subject, answer in known.items()
    ]


def practice_edits() -> list[Edit]:
    """Return an edit of each fact, to another answer of its relation; its locality is a fact of the next relation."""
    found = []
    for number, (prompt, rephrase, known) in enumerate(RELATIONS):
        other, _, elsewhere = RELATIONS[(number + 1) % len(RELATIONS)]
        questions = [(other.format(subject), f" {answer}") for subject, answer in elsewhere.items()]
        answers = list(known.values())
        for place, (subject, answer) in enumerate(known.items()):
            target = next(one for one in answers[place:] + answers[:place] if one != answer)
            found.append(
                Edit(
                    prompt.format(subject),
                    f" {target}",
                    subject,
                    (rephrase.format(subject),),
                    questions[place % len(questions)],
                    f" {answer}",
                    identity=f"plain/{number}/{place}",
                )
            )
    return found
