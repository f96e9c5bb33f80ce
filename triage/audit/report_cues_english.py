"""English cues that deny, doubt, date or set aside a finding, and what ends their reach (after NegEx and ConText)."""

from __future__ import annotations

from triage.audit.report_terms import Row, Sense, Word

SHORTHAND = {
    "was": "{is|are|was|were|has been|have been}",
    "seen": (
        "{seen|noted|present|identified|visualized|visualised|demonstrated|evident|visible|observed|detected|shown}"
    ),
}

ROWS = (
    Row(
        Word.BEFORE,
        Sense.NEGATED,
        """
        no, not, nor, neither, without, w/o, negative for, absence of, free of, free from, clear of, lack of, nil,
        none, no {radiographic |radiological |convincing |definite |clear |obvious |}{evidence|sign|signs|
        findings|features|suggestion|indication} {of|for|to suggest}, nothing to suggest, {excludes|rules out},
        rather than, instead of, {atypical|not typical|uncharacteristic|not characteristic|not suggestive|
        not suspicious|not diagnostic} {of|for}, atypical {appearance|appearances|features} {of|for},
        unlikely to {be|represent|reflect}, as opposed to, not {consistent|compatible} with, does not {represent|
        suggest|indicate}, resolved without
        """,
    ),
    Row(
        Word.BEFORE,
        Sense.POSSIBLE,
        """
        possible, possibly, probable, probably, likely, most likely, less likely, suspected, suspect, presumed,
        {suspicious|concerning|worrisome|equivocal} for, {suspicion|concern|question|possibility|likelihood|
        probability} {of|for}, questionable, suggestive of, suggesting, suggests, suggest, {may|might|could|
        can} {represent|reflect|be|be due to|indicate|relate to|be related to}, {cannot|can not|can't|could not|
        unable to|not possible to} {exclude|rule out|r/o}, {does not|do not|not} {exclude|rule out}, {favored|
        favoured} to {represent|reflect|be}, favors, favours, favoring, favouring, {to |}rule out, r/o,
        to exclude, {consider|considerations include|differential includes|differential diagnosis includes|
        differential considerations include|ddx}, potentially, perhaps, query, suspicious of, raises concern for,
        raising the possibility of, such as
        """,
    ),
    Row(Word.BEFORE, Sense.RESOLVED, "{interval |complete |}{resolution|clearing|clearance} of, {resolved|cleared}"),
    Row(
        Word.BEFORE,
        Sense.IGNORED,
        """
        if, {to |}{evaluate|assess|look|check} for, should symptoms, in case of, {in |}comparison {to|with},
        when clinically, indeterminate {for|appearance for|appearance of}, {treated for|treatment for|
        treatment of|admitted with|admitted for|presenting with|vaccinated against}
        """,
    ),
    Row(
        Word.NEXT,
        Sense.PAST,
        """
        previous, prior, previously {seen |noted |described |reported |identified |demonstrated |visualized |
        visualised |}, {history|hx} of, h/o, s/p, status post
        """,
    ),
    Row(Word.NEXT, Sense.OLD, "old, healed, old healed, remote, sequela of, sequelae of, residua of"),
    Row(Word.NEXT, Sense.NEW, "new, newly, further, additional, worsening, increasing, enlarging"),
    Row(
        Word.AFTER,
        Sense.NEGATED,
        """
        <was> not <seen>, not <seen>, <was> absent, absent, ruled out, <was> ruled out, <was> excluded, {is|
        are} {considered |felt |thought |}unlikely, unlikely, {is|are} not {suspected|suggested|appreciated|
        apparent|favored|favoured}, not appreciated
        """,
    ),
    Row(
        Word.AFTER,
        Sense.POSSIBLE,
        """
        {cannot|can not|can't|could not} be {entirely |completely |fully |definitely |}{excluded|ruled out|r/o},
        <was> not {entirely |completely |}{excluded|ruled out}, not {entirely |completely |}{excluded|ruled out},
        {is|are} {suspected|possible|likely|probable|questioned|favored|favoured|suggested|considered|
        most likely}, {should|could|may|might} be {considered|present}, difficult to exclude, remains {possible|
        a possibility|a consideration|a concern}, until proven otherwise, is {a possibility|a consideration|
        a concern|in the differential}, is difficult to exclude, favored, favoured
        """,
    ),
    Row(
        Word.AFTER,
        Sense.RESOLVED,
        """
        {has|have|is|are} {now |since |completely |fully |largely |}{resolved|cleared|disappeared}, {is|
        are} no longer <seen>
        """,
    ),
    Row(
        Word.AFTER,
        Sense.AFFIRMED,
        """
        <was> {again |now |still |also |}<seen>, {again|now|still} <seen>, persists, persist, remains, remain,
        unchanged, stable, {is|are} {unchanged|stable}, {has|have} {increased|worsened|progressed|improved|
        decreased|developed|persisted}, {is|are} {increasing|worsening|improving|larger|smaller}, {not|not yet|
        has not|have not|not completely|not fully|incompletely|partially|partly|nearly|mostly} {resolved|cleared},
        unresolved
        """,
    ),
    Row(
        Word.BOUNDARY,
        None,
        """
        but, however, although, though, except, except for, apart from, aside from, other than, whereas, while,
        which, secondary to, due to, there is, there are, there has been, there have been, shows, demonstrates,
        with {persistent|stable|unchanged|residual|a small|small|moderate|mild|a|an}, and {a|stable|unchanged|
        persistent|small|mild|moderate}, not only
        """,
    ),
    Row(Word.AND, None, "and, &, plus, as well as"),
    Row(Word.EITHER, None, "or, and/or, versus, vs"),
    Row(
        Word.NOTHING,
        None,
        """
        {no|not|without|no significant|no substantial|no appreciable|no definite|no major|no relevant|
        no overall} {interval |}{change|changes|changed|improvement|progression|worsening|increase|decrease} {in|
        of|from|since}, no {relevant |overall |significant |substantial |appreciable |}{interval |}change,
        not {significantly |substantially |appreciably |}changed, compared {to|with} {the |}{prior|previous},
        {prior|previous} {study|studies|exam|examination|radiograph|radiographs|film|films|chest|ct|imaging|image|
        day|report|x-ray|pneumonia film}, year old, year-old, years old, to {ensure|document|confirm|
        assess} {resolution|clearing|clearance}, until {resolution|clearance}, {aortic|vascular|atherosclerotic|
        coronary|arterial} calcification{s|}, calcification of the aorta, {normal|satisfactory} position,
        in normal position, normal variant, chest tube, chest drain, chest radiograph, chest x-ray, bone density,
        abnormal, respiratory infection, lung cancer screening, without {interval |significant |}change,
        {near-|near }complete resolution of, partial {resolution|clearing} of
        """,
    ),
)
