"""What the dashboard shows: rows of panels, from what an operator looks at first to what explains it."""

from __future__ import annotations

from deploy.grafana.panel import GREEN, ORANGE, RED, Panel, Query

# By instance, and by model where there are models. Requests that name no model have the model "none".
HOST = 'job="sonant", instance=~"$instance"'
ALL = f'{HOST}, model=~"$model"'
# Requests for tasks: not those to /health and /metrics.
TASKS = f'{ALL}, task!="none"'
REQUESTS = f"sum(rate(sonant_requests_total{{{TASKS}}}[$__rate_interval]))"


def share(statuses: str) -> str:
    """Return the share of requests that ended with `statuses`; 0 where there is none of them."""
    those = f'sum(rate(sonant_requests_total{{{TASKS}, status=~"{statuses}"}}[$__rate_interval]))'
    return f"({those} or vector(0)) / {REQUESTS}"


def quantile(q: float, histogram: str, by: str = "") -> str:
    """Return a quantile of `histogram`, by the labels `by` where it is not of all together."""
    names = f"{by}, le" if by else "le"
    return f"histogram_quantile({q}, sum by ({names}) (rate({histogram}_bucket{{{ALL}}}[$__rate_interval])))"


def mean(histogram: str, by: str) -> str:
    """Return the mean of `histogram` by the labels `by`."""
    total, count = (f"sum by ({by}) (rate({histogram}_{end}{{{ALL}}}[$__rate_interval]))" for end in ("sum", "count"))
    return f"{total} / {count}"


def rate(counter: str, by: str = "model", labels: str = ALL) -> str:
    """Return how fast `counter` grows, by the labels `by`."""
    return f"sum by ({by}) (rate({counter}{{{labels}}}[$__rate_interval]))"


# Share of the time that the workers of an engine had batches, by instance and model.
BUSY = f"rate(sonant_engine_busy_seconds_total{{{ALL}}}[$__rate_interval]) / sonant_engine_workers{{{ALL}}}"
DURATION = "sonant_request_duration_seconds"

NOW = [
    Panel(
        "Ready",
        [Query(f"min(sonant_ready{{{HOST}}} or up{{{HOST}}})")],
        "Whether every server answers, and its /health/ready with 200.",
        kind="stat",
        width=3,
        height=4,
        texts={"0": ("no", RED), "1": ("yes", GREEN)},
    ),
    Panel(
        "Alerts",
        [Query('count(ALERTS{alertname=~"Sonant.+", alertstate="firing"}) or vector(0)')],
        "Alerts that fire; the last row has them by name, deploy/README.md what to do.",
        kind="stat",
        width=3,
        height=4,
        steps=[(RED, 1)],
    ),
    Panel(
        "Models that failed",
        [Query(f'sum(sonant_model_state{{{ALL}, state="failed"}})')],
        "Models that could not be loaded, or did not reproduce their golden clips; they are not served.",
        kind="stat",
        width=3,
        height=4,
        steps=[(RED, 1)],
    ),
    Panel("Requests", [Query(REQUESTS)], "Requests for tasks.", unit="reqps", kind="stat", width=3, height=4),
    Panel(
        "Failed",
        [Query(share("5..|1011|1012"))],
        "Share of the requests that the server failed on: 500 to 599, and of streams the close codes 1011 and 1012.",
        unit="percentunit",
        kind="stat",
        width=3,
        height=4,
        steps=[(ORANGE, 0.001), (RED, 0.01)],
        decimals=1,
    ),
    Panel(
        "Refused",
        [Query(share("429|1013"))],
        "Share of the requests that were refused since there is too much to do: 429, and of streams 1013.",
        unit="percentunit",
        kind="stat",
        width=3,
        height=4,
        steps=[(ORANGE, 0.01), (RED, 0.05)],
        decimals=1,
    ),
    Panel(
        "p99 of the answers",
        [Query(quantile(0.99, DURATION))],
        "From the head of a request to the head of its answer, of those that succeeded.",
        unit="s",
        kind="stat",
        width=3,
        height=4,
        steps=[(ORANGE, 10), (RED, 30)],
        decimals=1,
    ),
    Panel(
        "Busiest engine",
        [Query(f"max({BUSY})")],
        "Share of the time that the workers of an engine had batches.",
        unit="percentunit",
        kind="stat",
        width=3,
        height=4,
        steps=[(ORANGE, 0.8), (RED, 0.95)],
        decimals=0,
    ),
]

TRAFFIC = [
    Panel(
        "Requests by status",
        [Query(rate("sonant_requests_total", "status", TASKS), "{{status}}")],
        "Statuses of HTTP; 499: the client left before the answer; from 1000 on, close codes of streams.",
        unit="reqps",
        stacked=True,
    ),
    Panel(
        "Requests by task and model",
        [Query(rate("sonant_requests_total", "task, model", TASKS), "{{task}} {{model}}")],
        "The model is none where the request named none that is there.",
        unit="reqps",
        stacked=True,
    ),
    Panel(
        "Errors and refusals by code",
        [
            Query(
                f"sum by (code) (rate(sonant_errors_total{{{HOST}}}[$__rate_interval])) "
                f"and on (code) sum by (code) (increase(sonant_errors_total{{{HOST}}}[$__range])) > 0",
                "{{code}}",
            )
        ],
        "All errors that were answered, of all models: docs/errors.md says what each means.",
        unit="reqps",
        stacked=True,
    ),
    Panel(
        "Audio received",
        [Query(rate("sonant_received_audio_seconds_total"), "{{model}}")],
        "Seconds of decoded audio for each second.",
        unit="none",
        stacked=True,
        axis="seconds of audio a second",
    ),
    Panel(
        "Bodies received",
        [Query(rate("sonant_received_bytes_total", "task", f'{HOST}, task!="none"'), "{{task}}")],
        "Bytes of the bodies of requests.",
        unit="binBps",
        stacked=True,
    ),
    Panel(
        "In progress",
        [
            Query(f"sum by (instance) (sonant_requests_in_progress{{{HOST}}})", "requests to {{instance}}"),
            Query(f"sum by (instance) (sonant_streams{{{HOST}}})", "streams of {{instance}}"),
        ],
        "Requests that are received, wait or are answered: streams too, and the scrape that counts them.",
        unit="none",
    ),
]

LATENCY = [
    Panel(
        "Answers",
        [Query(quantile(q, DURATION), f"p{q * 100:g}") for q in (0.5, 0.9, 0.99)],
        "From the head of a request to the head of its answer, of those that succeeded; streams are not among them.",
        unit="s",
    ),
    Panel(
        "p99 of the answers by task and model",
        [Query(quantile(0.99, DURATION, "task, model"), "{{task}} {{model}}")],
        "Which of them is slow.",
        unit="s",
    ),
    Panel(
        "Stages, mean",
        [Query(mean("sonant_stage_duration_seconds", "stage"), "{{stage}}")],
        "What a request passes on its way. Of several clips or windows, the longest wait and the longest batch.",
        unit="s",
        stacked=True,
    ),
    Panel(
        "Stages, p99",
        [Query(quantile(0.99, "sonant_stage_duration_seconds", "stage"), "{{stage}}")],
        "Which of them makes the slow ones slow.",
        unit="s",
    ),
    Panel(
        "Wait of a clip for its batch",
        [Query(quantile(0.99, "sonant_clip_queue_seconds", "model"), "p99 {{model}}")],
        "From the decoded clip to the beginning of its batch.",
        unit="s",
    ),
    Panel(
        "Final texts of streams",
        [Query(quantile(q, "sonant_stream_text_duration_seconds"), f"p{q * 100:g}") for q in (0.5, 0.99)],
        "From a complete window to its text.",
        unit="s",
    ),
]

BATCHES = [
    Panel(
        "Queue",
        [
            Query(f"sum by (model) (sonant_queue_audio_seconds{{{ALL}}})", "{{model}}"),
            Query(f"max(sonant_queue_limit_audio_seconds{{{ALL}}})", "limit of one engine", is_limit=True),
        ],
        "Seconds of audio that wait for an engine. What would be above the limit is refused with 429.",
        unit="s",
    ),
    Panel(
        "Clips in a batch, mean",
        [Query(mean("sonant_batch_clips", "model"), "{{model}}")],
        "Batches grow only while clips wait.",
        unit="none",
    ),
    Panel(
        "Padded share of batches, mean",
        [Query(mean("sonant_batch_padding_ratio", "model"), "{{model}}")],
        "What is computed for nothing, since clips of unlike lengths share a batch; max_padding is its limit.",
        unit="percentunit",
    ),
]

ENGINES = [
    Panel(
        "Audio run",
        [Query(rate("sonant_engine_audio_seconds_total"), "{{model}}")],
        "Seconds of audio for each second, without padding. At full load this is the capacity.",
        unit="none",
        stacked=True,
        axis="seconds of audio a second",
    ),
    Panel(
        "Real-time factor",
        [
            Query(
                f"{rate('sonant_engine_busy_seconds_total')} / {rate('sonant_engine_audio_seconds_total')}", "{{model}}"
            )
        ],
        "Seconds of an engine for a second of audio: the less, the faster; at 1, it just keeps up with who speaks.",
        unit="none",
    ),
    Panel(
        "Busy share of the workers",
        [Query(f"max by (model) ({BUSY})", "{{model}}")],
        "Of the busiest server. Near 100 % what arrives waits; models on one processor slow each other down before.",
        unit="percentunit",
    ),
    Panel(
        "Batches that failed",
        [Query(f"sum by (model) (increase(sonant_batch_failures_total{{{ALL}}}[$__rate_interval]))", "{{model}}")],
        "A batch that fails is run again by halves: one bad clip makes some of them fail.",
        unit="none",
    ),
    Panel(
        "Failed loads and fallbacks",
        [
            Query(f'sum by (model) (sonant_model_loads_total{{{ALL}, outcome="failed"}})', "{{model}} not loaded"),
            Query(f"sum by (model) (sonant_model_form_fallbacks_total{{{ALL}}})", "{{model}} in another form"),
        ],
        "Since the servers were started: engines that could not be loaded, and forms that did not work.",
        unit="none",
    ),
    Panel(
        "Verification: error of its bound",
        [
            Query(
                "max by (model, graph) "
                f"(sonant_model_verification_error{{{ALL}}} / sonant_model_verification_bound{{{ALL}}})",
                "{{model}} {{graph}}",
            )
        ],
        "Against transformers, as measured at load: of a graph's outputs, the one that is nearest to its bound.",
        unit="percentunit",
        kind="bargauge",
        steps=[(ORANGE, 0.9), (RED, 1)],
        maximum=1,
    ),
]

MODELS = [
    Panel(
        "Verification by output",
        [
            Query(f"max by (model, graph, output) (sonant_model_verification_error{{{ALL}}})", "error"),
            Query(f"max by (model, graph, output) (sonant_model_verification_bound{{{ALL}}})", "bound"),
        ],
        "Against transformers, as measured when it was loaded.",
        unit="sci",
        kind="table",
        width=12,
        height=10,
        columns=("model", "graph", "output", "Value #A", "Value #B"),
        decimals=1,
    ),
    Panel(
        "States",
        [Query(f"sonant_model_state{{{ALL}}} == 1")],
        "A model that is replaced is ready all the time.",
        kind="table",
        width=6,
        height=10,
        columns=("instance", "model", "state"),
    ),
    Panel(
        "Forms in use",
        [Query(f"sonant_model_form{{{ALL}}} == 1")],
        "The runtime and the precision: docs/precision.md.",
        kind="table",
        width=6,
        height=10,
        columns=("instance", "model", "runtime", "precision"),
    ),
]

PROCESS = [
    Panel(
        "Memory",
        [
            Query(f"process_resident_memory_bytes{{{HOST}}}", "resident {{instance}}"),
            Query(f"sum by (instance) (sonant_model_file_bytes{{{ALL}}})", "files of engines {{instance}}"),
        ],
        "Resident memory of the process, in which the engines' files are mapped. GPU memory is not in it.",
        unit="bytes",
    ),
    Panel(
        "Held by requests, of what they may",
        [Query(f"max by (kind) (sonant_held_bytes{{{HOST}}} / sonant_held_limit_bytes{{{HOST}}})", "{{kind}}")],
        "Bodies, decoded audio, answers, streams and the spool: what would be above 100 % is refused with 429.",
        unit="percentunit",
    ),
    Panel(
        "Processors",
        [Query(f"rate(process_cpu_seconds_total{{{HOST}}}[$__rate_interval])", "{{instance}}")],
        "Processors that the process keeps busy.",
        unit="none",
    ),
    Panel(
        "File descriptors, of what there may be",
        [Query(f"process_open_fds{{{HOST}}} / process_max_fds{{{HOST}}}", "{{instance}}")],
        "Connections, uploads and long clips have one each.",
        unit="percentunit",
    ),
    Panel(
        "Versions",
        [Query(f"sonant_build_info{{{HOST}}}")],
        "What serves.",
        kind="table",
        columns=("instance", "version", "onnxruntime", "python"),
    ),
    Panel(
        "Alerts that fire",
        [Query('ALERTS{alertname=~"Sonant.+", alertstate="firing"}')],
        "deploy/README.md has a section for each.",
        kind="table",
        columns=("alertname", "severity", "instance", "model"),
    ),
]

ROWS = {
    "Now": NOW,
    "Traffic": TRAFFIC,
    "Latency": LATENCY,
    "Queue and batches": BATCHES,
    "Engines": ENGINES,
    "Models": MODELS,
    "Process and alerts": PROCESS,
}
