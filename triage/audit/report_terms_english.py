"""English terms of chest reports: what can be seen, what can be well, and what it is said of."""

from __future__ import annotations

from triage.audit.report_terms import Row, Sense, Word

SHORTHAND = {
    "virus": (
        "{covid-19|covid 19|covid19|covid|sars-cov-2|sars cov 2|sars-cov2|coronavirus|novel coronavirus|2019-ncov}"
    ),
    "its pneumonia": (
        "{ pneumonia| pneumonitis| infection| disease| lung disease| related pneumonia|-related pneumonia|}"
    ),
    "co-rads": "{co-rads|corads|co rads}{ |: |:|-| category | score |}",
    "disease": (
        "{disease|process|processes|abnormality|abnormalities|finding|findings|pathology|change|changes|lesion|lesions}"
    ),
    "wide": "{cardiopulmonary |cardio-pulmonary |cardiothoracic |intrathoracic |thoracic |pulmonary |lung |chest |}",
}

ROWS = (
    Row(Word.COVID, None, "<virus><its pneumonia>"),
    Row(Word.COVID, None, "<co-rads>{5|6}, rsna typical, rsna: typical, typical (rsna), cvcx1, cvcx 1"),
    Row(Word.COVID, Sense.POSSIBLE, "<co-rads>4"),
    Row(Word.COVID, Sense.IGNORED, "<co-rads>3, cvcx2, cvcx 2"),
    Row(Word.COVID, Sense.NEGATED, "<co-rads>{1|2}, non-covid, non covid, cvcx3, cvcx 3, cvcx0"),
    Row(
        Word.TESTED_POSITIVE,
        None,
        """
        <virus>{ |-}positive, <virus>{ |-}pcr{ |-}positive, {positive for |patient with |patient has |
        patient with known |patient with confirmed |in the setting of |setting of known }<virus>
        """,
    ),
    Row(
        Word.NOTHING,
        None,
        """
        <virus>{ | infection | pneumonia }{ward|unit|vaccine|vaccination|vaccinated|exposure|contact|screening|
        test|testing|swab|status|pcr|precautions|era|pandemic|negative|isolation}, {post |post-|post|prior |
        history of |hx |hx of |h/o |recovered from |after }<virus>{ pneumonia| infection|}, contact with <virus>,
        exposure to <virus>
        """,
    ),
    Row(
        Word.PNEUMONIA,
        None,
        """
        {broncho|}pneumonia{s|}, broncho-pneumonia, pna, pneumonic {infiltrate|infiltrates|consolidation|process|
        change|changes|opacity|focus}, {aspiration|viral|infectious} pneumonitis, infectious {infiltrate|
        infiltrates|consolidation|pneumonitis}
        """,
    ),
    Row(
        Word.INFECTION,
        None,
        """
        infection{s|}, infectious, infectious {process|etiology|aetiology|disease|cause}, infective,
        infective {process|change|changes|cause|consolidation}, inflammation, aspiration
        """,
    ),
    Row(
        Word.OPACITY,
        None,
        """
        consolidation{s|}, consolidative {change|changes|opacity|opacities|process}, infiltrate{s|},
        infiltration{s|}, {airspace |air space |air-space |}{opacity|opacities|opacification|opacifications|
        shadowing}, {airspace|air space|air-space} {disease|process|change|changes}, {ground glass|ground-glass|
        groundglass}{ opacity| opacities| change| changes| opacification|}, ggo{s|}, shadow, haziness, density,
        densities, hazy {base|bases|lung}, patchy {change|changes}
        """,
    ),
    Row(
        Word.OTHER,
        None,
        """
        {pleural |}effusion{s|}, pleural fluid, hydropneumothorax, pneumothorax, pneumothoraces, cardiomegaly,
        {enlarged heart|heart enlarged|heart is enlarged|heart size is enlarged|cardiac enlargement|
        enlarged cardiac silhouette|cardiac silhouette is enlarged|heart size is increased}, nodule{s|}, {mass|
        masses}, {cavitary|lytic|sclerotic|nodular} {lesion|lesions}, atelectasis, atelectatic, collapse, failure,
        {blunting|blunted}, {pulmonary |interstitial |}{edema|oedema}, {chf|heart failure|cardiac failure|
        vascular congestion|congestion|cephalization}, {prominent|engorged} pulmonary {vasculature|vessels|
        vascularity}, fluid overload, {emphysema|emphysematous|copd|hyperinflation|hyperinflated|hyperexpanded|
        bulla|bullae}, {fibrosis|fibrotic|scar|scars|scarring}, interstitial {markings|thickening|disease|
        lung disease|prominence|changes}, reticular {markings|opacities}, bronchiectasis,
        bronchial wall thickening, peribronchial {cuffing|thickening}, pleural {thickening|plaque|plaques},
        granuloma{s|}, calcified {focus|foci}, calcification{s|}, {fracture|fractures}, {hilar|
        mediastinal} {enlargement|adenopathy|lymphadenopathy|mass|widening}, {adenopathy|lymphadenopathy},
        widened mediastinum, {hernia|hiatus hernia|hiatal hernia}, {tuberculosis|tb|cavity|cavities|cavitation|
        cavitating|cavitary|abscess|empyema}, {malignancy|neoplasm|neoplastic|tumor|tumour|carcinoma|metastasis|
        metastases|lung cancer}, pneumoperitoneum, pneumomediastinum, subcutaneous emphysema, {elevated|
        raised} {right |left |}hemidiaphragm, elevation of the {right |left |}hemidiaphragm, tree-in-bud,
        white-out, whiteout, reticulation, ards, {silicosis|asbestosis|sarcoidosis}
        """,
    ),
    Row(
        Word.OTHER,
        None,
        """
        {usual |nonspecific |non-specific |desquamative |lymphocytic |acute |}interstitial {pneumonia|
        pneumonitis}, {cryptogenic |}{organising|organizing} pneumonia, {eosinophilic|lipoid|radiation} pneumonia,
        {radiation |hypersensitivity |}pneumonitis, uip, nsip
        """,
    ),
    Row(
        Word.OTHER,
        Sense.OLD,
        """
        {old|remote|prior} granulomatous disease, {postinflammatory|post-inflammatory} {change|changes}
        """,
    ),
    Row(
        Word.ABNORMALITY,
        None,
        """
        {abnormality|abnormalities|pathology|lesion|lesions}, {abnormal|significant|specific} {finding|findings}
        """,
    ),
    Row(Word.ACUTE, None, "{acute|active} <wide><disease>"),
    Row(Word.ACUTE, None, "{cardiopulmonary|cardio-pulmonary|intrathoracic} {disease|process|abnormality|pathology}"),
    Row(
        Word.NORMALITY,
        None,
        """
        normal, unremarkable, within normal limits, wnl, nad, no abnormality detected, nothing abnormal detected,
        nothing acute, negative {chest|study|examination|exam|radiograph|cxr}
        """,
    ),
    Row(
        Word.ACUTE,
        Sense.NEGATED,
        """
        otherwise {normal|unremarkable|clear|negative}, {no|without} other {acute |}<disease>
        """,
    ),
    Row(Word.CLEAR, None, "clear"),
    Row(
        Word.LUNGS,
        None,
        """
        {lung|lungs|lung fields|chest|cxr|thorax|lung parenchyma|pulmonary parenchyma|study|examination|exam|
        radiograph|film|cardiopulmonary|intrathoracic|airspaces}
        """,
    ),
    Row(
        Word.PART,
        None,
        """
        {heart|cardiac|cardiac silhouette|cardiomediastinal|cardiomediastinal silhouette|mediastinum|mediastinal|
        hila|hilar|hilum|aorta|aortic|trachea|airway|airways|bone|bones|bony|bony thorax|osseous|skeletal|
        skeleton|rib|ribs|spine|soft tissues|chest wall|diaphragm|diaphragms|hemidiaphragm|hemidiaphragms|pleura|
        pleural|pleural spaces|costophrenic|costophrenic angles|abdomen|bowel|pulmonary vasculature|
        pulmonary vascularity|pulmonary vessels|vascularity|vasculature|lung volumes|contour|contours|
        cardiac size|heart size}
        """,
    ),
)
