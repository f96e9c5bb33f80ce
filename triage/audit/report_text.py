"""
Reads a label from the text of a chest radiograph's final report, in English, Japanese or both, by rules.

What a label is worth. It says what the radiologist wrote, not what the patient had, and it is the lowest source there
is (`labels.Source.REPORT_TEXT`): below RT-PCR and CT adjudication, consensus, an audit read, and a final report that a
person coded. "COVID" least of all: a radiograph rarely proves it and a normal one does not exclude it, so a COVID read
from text never stands against a PCR; where there is no PCR it means "the reader thought of COVID", no more.

The rules, by which the test sets are labelled too:

- COVID before pneumonia before other abnormal, among what is affirmed or possible; else normal, if that is said.
- Consolidation, infiltrate, opacity, 浸潤影 alone are other; they are pneumonia where the same report names pneumonia,
  infection, inflammation or aspiration as possible. Interstitial, organising, radiation pneumonia and the like,
  tuberculosis and abscess are other.
- "Likely", "suggestive of", "cannot be excluded", 疑い, 考えられる, 否定できない: possible. "Consistent with",
  "compatible with", 矛盾しない, 考える: affirmed. "Unlikely", 可能性は低い: negated.
- CO-RADS 5 to 6 and "typical for COVID": affirmed; 4: possible; 3 and "indeterminate": no label; 1, 2 and "atypical":
  negated. COVID known from elsewhere labels nothing, but makes a pneumonia possibly COVID.
- Normal is affirmed where the chest or the lungs are called so, or any (acute) abnormality is denied; negated where
  only pneumonia, COVID or an opacity is denied; historical where one is only said to be gone. "No new ..." denies none.
- Other is historical where only old traces are seen. What improves or does not change is still there.
- The impression outweighs the findings; "no acute disease" in it leaves what is chronic. History, indication,
  technique, comparison, 検査目的, 臨床情報 and the like never label.
- Devices, the aorta's calcification, the spine's wear: no label. A normal heart alone says nothing of the lungs.

How often it is right. Share of labels right at the first look, before any rule was changed, with Wilson's 95% interval;
`FIRST_LOOK` has the counts. The sentences are invented, and whoever wrote the rules wrote them:

- `reports_test.csv`, written before the rules, in phrases the rules were then made for: an upper bound.

      class            English                    Japanese                   both
      normal           22/22 1.00 [0.85, 1.00]    18/21 0.86 [0.65, 0.95]    40/43 0.93 [0.81, 0.98]
      pneumonia        20/20 1.00 [0.84, 1.00]    20/20 1.00 [0.84, 1.00]    40/40 1.00 [0.91, 1.00]
      covid            15/15 1.00 [0.80, 1.00]    13/14 0.93 [0.69, 0.99]    28/29 0.97 [0.83, 0.99]
      other abnormal   19/19 1.00 [0.83, 1.00]    20/20 1.00 [0.84, 1.00]    39/39 1.00 [0.91, 1.00]
      undetermined     10/10 1.00 [0.72, 1.00]    10/10 1.00 [0.72, 1.00]    20/20 1.00 [0.84, 1.00]
      all              86/86 1.00 [0.96, 1.00]    81/85 0.95 [0.89, 0.98]   167/171 0.98 [0.94, 0.99]

  Label and certainty both right: 165/171. Wrong, all Japanese: クリア before a comma and a denial (read as denied);
  陰影の増強などなく (read as a shadow); a nipple's shadow explained as that; a typical pattern denied, but COVID not.
- `reports_hard.csv`, written afterwards to break the rules as they then stood: nearer to a report nobody had in mind.

      class            English                    Japanese                   both
      normal            7/10 0.70 [0.40, 0.89]     7/11 0.64 [0.35, 0.85]    14/21 0.67 [0.45, 0.83]
      pneumonia          4/6 0.67 [0.30, 0.90]      7/8 0.88 [0.53, 0.98]    11/14 0.79 [0.52, 0.92]
      covid              4/4 1.00 [0.51, 1.00]      2/3 0.67 [0.21, 0.94]      6/7 0.86 [0.49, 0.97]
      other abnormal     6/8 0.75 [0.41, 0.93]      5/6 0.83 [0.44, 0.97]    11/14 0.79 [0.52, 0.92]
      undetermined       2/2 1.00 [0.34, 1.00]      1/2 0.50 [0.09, 0.91]      3/4 0.75 [0.30, 0.95]
      all              23/30 0.77 [0.59, 0.88]    22/30 0.73 [0.56, 0.86]    45/60 0.75 [0.63, 0.84]

  Label and certainty both right: 37/60. Most of these kinds were since added to `reports_development.csv` and mended,
  which no untouched set has measured.

Neither figure is that of a hospital's own reports. Before its labels count there, a site reads some hundred by eye.
"""

from __future__ import annotations

from collections.abc import Mapping

from triage.audit.report_letters import Plain, plain
from triage.audit.report_outcome import Extracted, Mention, Outcome, calls_normal, decide
from triage.audit.report_scan import respelt, scan
from triage.audit.report_scope import senses
from triage.audit.report_sections import Sentence, sentences
from triage.audit.report_subjects import UNNAMED_STATES, speaks_of_lungs
from triage.audit.report_terms import Sense, Word

FIRST_LOOK: Mapping[tuple[str, str, Outcome], tuple[int, int]] = {
    ("test", "en", Outcome.NORMAL): (22, 22),
    ("test", "en", Outcome.PNEUMONIA): (20, 20),
    ("test", "en", Outcome.COVID): (15, 15),
    ("test", "en", Outcome.OTHER_ABNORMAL): (19, 19),
    ("test", "en", Outcome.UNDETERMINED): (10, 10),
    ("test", "ja", Outcome.NORMAL): (18, 21),
    ("test", "ja", Outcome.PNEUMONIA): (20, 20),
    ("test", "ja", Outcome.COVID): (13, 14),
    ("test", "ja", Outcome.OTHER_ABNORMAL): (20, 20),
    ("test", "ja", Outcome.UNDETERMINED): (10, 10),
    ("hard", "en", Outcome.NORMAL): (7, 10),
    ("hard", "en", Outcome.PNEUMONIA): (4, 6),
    ("hard", "en", Outcome.COVID): (4, 4),
    ("hard", "en", Outcome.OTHER_ABNORMAL): (6, 8),
    ("hard", "en", Outcome.UNDETERMINED): (2, 2),
    ("hard", "ja", Outcome.NORMAL): (7, 11),
    ("hard", "ja", Outcome.PNEUMONIA): (7, 8),
    ("hard", "ja", Outcome.COVID): (2, 3),
    ("hard", "ja", Outcome.OTHER_ABNORMAL): (5, 6),
    ("hard", "ja", Outcome.UNDETERMINED): (1, 2),
}
"""Labels right and labels in all at the first look, by set (`reports_<set>.csv`), language and true class."""


def read_report(text: str) -> Extracted:
    """
    Read one report; any text gives a result, in time proportional to its length.

    Args:
        text: the report with its line breaks, HL7's escapes already undone.
    Returns:
        The label and what decided it, as places in *text*; no letter of the text is kept but the tables' own terms.
    """
    letters = respelt(plain(text))
    return decide(mention for sentence in sentences(letters) for mention in _mentions(letters, sentence))


def _mentions(text: Plain, sentence: Sentence) -> list[Mention]:
    tokens = scan(text, sentence.start, sentence.end)
    whole = text.span(sentence.start, sentence.end)
    named = [
        (Mention(t.word, sense, sentence.section, text.span(t.start, t.end), whole, t.name), of_lungs)
        for t, sense, of_lungs in zip(
            tokens, senses(tokens, text.lowered, sentence.start, sentence.end), speaks_of_lungs(tokens), strict=True
        )
        if sense is not None
    ]
    return [m for m, of_lungs in named if of_lungs or not _is_partial(m)]


def _is_partial(mention: Mention) -> bool:
    """Said of another organ than the lungs, it neither makes the chest normal nor takes that back."""
    undone = mention.word in (Word.NORMALITY, Word.CLEAR) and mention.sense is Sense.NEGATED
    return mention.word in UNNAMED_STATES and (calls_normal(mention) or undone)
