"""The tables that say how a model is scored: engine, generation, benchmarks, prices."""

from typing import Annotated, Literal

from pydantic import Field

from .table import IDENTITY, Count, CountOrZero, Name, Seed, Share, Table, Text


class Sampling(Table):
    do_sample: bool = Field(default=False, description="Draw tokens; false takes the likeliest one (greedy).")
    temperature: Annotated[float, Field(gt=0)] | None = Field(default=None, description="Needed to draw.")
    top_p: Annotated[float, Field(gt=0, le=1)] | None = Field(
        default=None, description="Needed to draw; 1 is off."
    )
    top_k: CountOrZero | None = Field(default=None, description="Needed to draw; 0 is off.")
    min_p: Share | None = Field(default=None, description="Needed to draw; 0 is off.")


class Task(Table):
    task: Text = Field(
        description="Name of a task of lm-evaluation-harness, or path to a task file of your own (.yaml). "
        "`gpqa_diamond` is ours, for its `gpqa_diamond_cot_zeroshot`."
    )
    data: Text | None = Field(
        default=None,
        description="Local file of questions (csv, json, jsonl, parquet), or a folder of such files; null takes the "
        "task's own data, which the first job downloads.",
        json_schema_extra={"identity": False},  # where it lies; its contents are
    )
    prompt: Text | None = Field(
        default=None, description="Prompt, a template over the data's columns; null takes the task's own."
    )
    scoring: Literal["boxed", "stock"] = Field(
        default="boxed",
        description="How answers are read: from the last `\\boxed{}`, for which the prompt asks, or where there is "
        "none from what is said to be the answer (`boxed`); or as the task itself does (`stock`). See docs/tasks.md.",
    )
    max_tokens: Count | None = Field(default=None, description="Takes the place of `evaluation.max_tokens`.")
    repeats: Count | None = Field(default=None, description="Takes the place of `evaluation.repeats`.")
    limit: Count | None = Field(default=None, description="Takes the place of `evaluation.limit`.")
    stratify: Text | None = Field(
        default=None,
        description="Column by whose values a limit takes its share of questions, drawn evenly; null takes the first "
        "ones.",
    )
    unsafe_code: Literal[True] | None = Field(
        default=None,
        description="`true` lets the task run code that models wrote, as `humaneval` does, with the rights of the "
        "evaluation's job.",
    )


class Server(Table):
    """A server with the completions of the OpenAI API."""

    command: Text | None = Field(
        default=None,
        description="Starts a server for one model. `{model}` (its folder), `{port}` (a free one), `{gpus}` and "
        "`{model_length}` are filled in. Null where a server that loads models by their folder's path is up.",
    )
    url: Text = Field(
        default="http://127.0.0.1:{port}/v1", description="Where it answers; `{port}` is the command's."
    )
    model: Text = Field(default="{model}", description="What the server calls the model.")
    key: Text | None = Field(
        default=None,
        description="Environment variable that holds the server's API key, where it asks for one.",
    )
    start: Count = Field(default=1800, description="Longest time (s) until a started server answers.")
    answer: Count = Field(default=7200, description="Longest time (s) of one answer.")


class Simulated(Table):
    """How long simulated evaluations take: log-normal, drawn from the candidate's id alone."""

    seconds: Annotated[float, Field(ge=0)] = Field(default=0, description="Median duration (s).")
    sigma: Annotated[float, Field(ge=0)] = Field(
        default=0,
        description="Standard deviation of the duration's natural logarithm; 0 makes all equally long.",
    )


class Prices(Table):
    """Prices, in one currency of your choice."""

    gpu_hour: float = Field(default=0, ge=0, description="An hour of one GPU.")
    input_tokens: float = Field(default=0, ge=0, description="A million tokens of prompts.")
    output_tokens: float = Field(default=0, ge=0, description="A million output tokens.")


class Evaluation(Table):
    engine: Literal["hf", "continuous", "vllm", "server", "simulated"] = Field(
        default="hf",
        description="What generates: transformers in batches (`hf`) or with continuous batching, vLLM in the job, or "
        "a server with the OpenAI API. `simulated` makes up scores from the weights, to try out settings and "
        "clusters: no model is merged or asked.",
        json_schema_extra=IDENTITY,
    )
    server: Server | None = Field(
        default=None, description="The server of `engine: server`.", json_schema_extra=IDENTITY
    )
    simulated: Simulated | None = Field(
        default=None,
        description="Lets evaluations of `engine: simulated` take time, to try out schedules; null takes none.",
    )
    python: Text | None = Field(
        default=None, description="Another interpreter for evaluation jobs; null takes the workflow's."
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto",
        description="Where models run: `cuda` on the GPUs that `resources.evaluate.gpu` counts, `auto` there if the "
        "machine has any.",
    )
    batch_size: Count = Field(default=32, description="Questions at work together.")
    candidates_per_job: Count = Field(
        default=1,
        description="Candidates that one job scores, one after the other, with its engine kept loaded.",
    )
    memory_share: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.9, description="Share of the GPU's memory that `continuous` and `vllm` take."
    )
    model_length: Count | None = Field(
        default=None,
        description="Tokens of prompt and answer together that the engine makes room for; null is the model's own "
        "length.",
    )
    threads: Count = Field(default=1, description="CPU threads of an evaluation.")
    dtype: Literal["float32", "bfloat16", "float16"] = Field(
        default="float32", description="Number format in which the model runs.", json_schema_extra=IDENTITY
    )
    seed: Seed = Field(
        default=0,
        description="Seed of the answers, the same for every candidate.",
        json_schema_extra=IDENTITY,
    )
    repeats: Count = Field(
        default=1, description="Answers to a question; more than 1 only if drawn.", json_schema_extra=IDENTITY
    )
    end_point_repeats: Count = Field(
        default=4,
        description="Multiplies `repeats` for the sources alone, which set the scale of the objectives; only "
        "if answers are drawn.",
        json_schema_extra=IDENTITY,
    )
    limit: Count | None = Field(
        default=None,
        description="Questions of each task, the first ones; null is all.",
        json_schema_extra=IDENTITY,
    )
    first_share: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default=None,
        description="Share of the questions that candidates of a search with `leave` are asked first, an even draw; "
        "null for no stages.",
        json_schema_extra=IDENTITY,
    )
    max_tokens: Count = Field(
        default=32768,
        description="Longest answer (tokens); what is longer is cut.",
        json_schema_extra=IDENTITY,
    )
    sampling: Sampling = Field(
        default=Sampling(), description="How tokens are chosen.", json_schema_extra=IDENTITY
    )
    tasks: dict[Name, Task] = Field(min_length=1, description="The benchmarks.", json_schema_extra=IDENTITY)
    prices: Prices = Field(default=Prices(), description="What the metric `cost` is reckoned with.")
