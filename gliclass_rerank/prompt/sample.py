"""Calibration sample: queries and passages of many kinds, to observe the range of activations.

Outliers come from unusual tokens rather than topics, so code, figures, names and other scripts are included.
"""

from __future__ import annotations

from typing import Final

_PASSAGES: Final = (
    "A bicycle chain skips under load when its links have stretched or the teeth of the cassette are worn. Measure it "
    "with a chain checker; replace it at 0.75 % wear, and the cassette with every second or third chain.",
    "Photosynthesis turns light, water and carbon dioxide into sugar and oxygen. In the light-dependent reactions, "
    "which take place in the thylakoid membranes, energy is stored as ATP and NADPH; the Calvin cycle then uses it.",
    "The Treaty of Westphalia (1648) ended the Thirty Years' War in the Holy Roman Empire. Some 8 million people had "
    "died, most of them from hunger and disease. France, Sweden and the Dutch Republic were among those who signed.",
    "Take 400 mg of ibuprofen every six hours with food, and not more than 1,200 mg a day unless a doctor says "
    "otherwise. Do not take it with other anti-inflammatory drugs, or in the last three months of pregnancy.",
    "To undo the last commit but keep its changes in the working tree, run `git reset --soft HEAD~1`. If it has been "
    "pushed already, prefer `git revert <sha>`, because rewriting history breaks the clones of everybody else.",
    'def mean(values: list[float]) -> float:\n    if not values:\n        raise ValueError("no values")\n'
    "    return sum(values) / len(values)  # O(n)",
    "Revenue rose by 12.4% to $3.18bn in Q3 (2019: $2.83bn), while operating costs fell to $1.02bn; net income per "
    "diluted share was $0.87, against analysts' expectations of $0.79. The board declared a dividend of 21 cents.",
    "I bought these boots in March and the sole came off after two weeks!!! Customer service never answered my mails. "
    "Would NOT recommend, 1/5 stars :-(",
    "The boundary layer on a flat plate stays laminar up to a Reynolds number of about 5 x 10^5. Beyond it small "
    "disturbances grow, skin friction rises, and heat transfer to the wall is several times larger.",
    "El río Amazonas nace en los Andes peruanos y desemboca en el océano Atlántico. Die Donau dagegen entspringt im "
    "Schwarzwald und fließt durch zehn Länder. 東京は日本の首都です。 Москва - столица России.",
    "Yes.",
    "Call 1-800-555-0199 or visit https://www.example.org/help?id=42&lang=en#faq. Open Mon-Fri 9:00-17:30, "
    "Sat 10-14. Address: 221B Baker Street, London NW1 6XE.",
    "Mix 250 g of flour, 2 eggs, half a litre of milk and a pinch of salt. Let the batter rest for 30 minutes; fry "
    "thin pancakes in butter over medium heat, about one minute a side. Serve with sugar and lemon.",
    "Her first novel, published in 1937, was ignored for thirty years. Critics disliked its dialect; readers who found "
    "it later loved exactly that. It is now taught in most American universities and has sold five million copies.",
    "Coronaviruses are a large family of RNA viruses. People with COVID-19 may spread the virus before they have "
    "symptoms; masks, ventilation and vaccination lower the risk, for themselves and for others.",
    "The tenant shall give not less than sixty (60) days' written notice prior to termination. Failure to do so shall "
    "entitle the landlord to retain the deposit, subject to Section 4(b) of this Agreement and applicable law.",
)
_QUERIES: Final = (
    "why does my chain skip when i pedal hard",
    "how do plants make oxygen",
    "when did the thirty years war end",
    "max daily dose ibuprofen",
    "git undo last commit",
    "python function to compute the average of a list",
    "What was the company's net income per share in the third quarter?",
    "are these boots any good?",
    "transition from laminar to turbulent flow on a flat plate and its effect on heat transfer",
    "longest river in South America",
    "is it safe",
    "opening hours",
    "pancake recipe without baking powder",
    "author",
    "can I infect others with covid-19 if I have no symptoms?",
    "How long before moving out must a tenant give notice, and what happens to the deposit otherwise?",
)
_NUM_PASSAGES: Final = 4


def sample_rankings() -> list[tuple[str, list[str]]]:
    """Queries, each with one relevant passage and some irrelevant ones."""
    return [
        (query, [_PASSAGES[(number + 5 * step) % len(_PASSAGES)] for step in range(_NUM_PASSAGES)])
        for number, query in enumerate(_QUERIES)
    ]
