# What a run found, for readers: a report and an interactive page, each a file that needs no network.
#
# REQUIRED INPUTS  tables/, figures/, candidates/<id>/{recipe.json,samples.parquet}; what `confirm` found, once it has
# OUTPUTS          README.md           which model for which need
#                  report.html         what was searched, the front, how it got there, what failed, what it cost
#                  front.html          the models one by one, and one chosen by preference and limits
#                  answers/<id>.js     what front.html loads when it is asked for answers

REPORT = expand(f"{RUN}/{{name}}", name=["README.md", "report.html", "front.html"])


rule report:
    """Put tables, figures and the chosen models' answers into pages."""
    input:
        TABLES,
        FIGURES,
        IMPORTANCE,
        in_report,
    output:
        f"{RUN}/README.md",
        [reported("", name, "Pages") for name in ("report.html", "front.html")],
        directory(f"{RUN}/answers"),
    log:
        f"{RUN}/logs/report.log",
    conda:
        "../../envs/optimize.yaml"
    script:
        "../scripts/report.py"
