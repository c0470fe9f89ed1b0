# The interactive page: one file that needs no network, to look at the models and to choose one.
#
# REQUIRED INPUTS  tables/, candidates/<id>/{recipe.json,samples.parquet}
# OUTPUTS          front.html          open it in a browser
#                  answers/<id>.js     what the page loads when it is asked for answers


rule page:
    """Put the models, the front and the chosen models' answers into a page."""
    input:
        TABLES,
    output:
        f"{RUN}/front.html",
        directory(f"{RUN}/answers"),
    log:
        f"{RUN}/logs/page.log",
    conda:
        "../../envs/optimize.yaml"
    script:
        "../scripts/page.py"
