# BAMBO: from two fine-tunes of one language model to a Pareto set of merged models.
#
# results/<run>/
#   sources/<name>.json              fingerprint, architecture, dtype, layers                 sources.smk
#   base.json                        the same of the base, where a method needs one
#   benchmarks/<name>.json, <name>/  the questions of a benchmark of the hub                  benchmarks.smk
#   partition/differences.parquet    how much every layer differs (Eq. 4)                     partition.smk
#   partition/blocks.json            the variables of every search
#   importance/importance.csv        how much every layer may matter, where a search asks     importance.smk
#   endpoints/candidates.json        the pure sources: the ends of every objective           endpoints.smk
#   endpoints/normalisation.json     what 0 and 1 of every objective mean (Eq. 2)
#   search/<search>/proposals/t<iteration>.json   one decision: candidates, what it saw       search.smk
#   search/<search>/proposals/s<slot>k<step>.json    of an asynchronous search: one candidate
#   search/<search>/promotions/<key>.json         which of them are asked all questions
#   search/<search>/slot<slot>-<iterations>       a slot has come to the end of that budget
#   search/<search>/together/t<iteration>         jobs that score several candidates are done  candidates.smk
#   jobs/<job>.json                  the candidates of one such job
#   search/<search>/complete-<iterations>         all evaluations of that budget are done
#   candidates/<id>/recipe.json      one merge in full; written once, made by no rule         candidates.smk
#   candidates/<id>/model/           the merged checkpoint, gone once scored
#   candidates/<id>/scores.json      accuracy, tokens, errors, or why there are none
#   smoke/report.txt                 a few questions, answered in full view: `snakemake smoke`  smoke.smk
#   tables/*.csv figures/*.svg       observations, fronts, comparison, selection              tables.smk
#   confirm/candidates.json          chosen models, asked anew: `snakemake confirm`         confirm.smk
#   README.md report.html front.html answers/     what to take, what was found, a page to choose  report.smk
#   tracked-<hash>                   observations are logged to the trackers of the config    tracking.smk
#   models/<name>/                   chosen models, ready to serve                            export.smk
#   run.json                         config and command of the last start                     common.smk

from snakemake.utils import min_version

min_version("9.27")


# Not a plain `configfile:`, which would mix the demo's keys into a config given with --configfile.
if not workflow.configfiles:

    configfile: "config/config.yaml"


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/sources.smk"
include: "workflow/rules/benchmarks.smk"
include: "workflow/rules/importance.smk"
include: "workflow/rules/partition.smk"
include: "workflow/rules/endpoints.smk"
include: "workflow/rules/search.smk"
include: "workflow/rules/candidates.smk"
include: "workflow/rules/tables.smk"
include: "workflow/rules/confirm.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/tracking.smk"
include: "workflow/rules/export.smk"
include: "workflow/rules/smoke.smk"


# Seconds of work on small files: not worth a place in a cluster's queue.
localrules:
    all,
    benchmark,
    importance,
    variables,
    blocks,
    endpoints,
    normalisation,
    propose,
    promote,
    slot,
    complete,
    together,
    tables,
    figures,
    report,
    confirm_candidates,
    confirmed,
    confirm,
    smoke_candidates,
    smoke,
    track,


rule all:
    """Search, tables, figures and report of every search in the config."""
    default_target: True
    input:
        TABLES,
        TABLES_FOR,
        FIGURES,
        REPORT,
        IMPORTANCE,
        TRACKED,


onstart:
    with plain_errors():
        notes = [*start.notes(CONFIG, PLACES.gpus, SPACE), *template_notes(CONFIG)]
        notes += [*slot_notes(CONFIG, PLACES.count), *dimension_notes(CONFIG)]
        start.check_environment(CONFIG, conda_in_use())
        start.begin(CONFIG, config, PLACES.count, notes)


onsuccess:
    print_summary()
