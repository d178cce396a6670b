"""The receiver's own metrics, each receiver's in a registry of its own."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class Figures:
    """What /metrics shows."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "nightshift_webhook_requests", "Requests, by way in and answer.", ["way", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "nightshift_webhook_request_seconds",
            "From the request's end to its answer.",
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 10),
            registry=self.registry,
        )
        self.runs = Counter(
            "nightshift_webhook_runs", "Deliveries by what became of them.", ["result"], registry=self.registry
        )
        # From the start: of a counter that first shows with 1 nobody sees that it grew.
        for result in ("made", "postponed", "not made"):
            self.runs.labels(result)
        self.reports = Counter(
            "nightshift_webhook_reports", "Deployment statuses sent to GitHub.", ["result"], registry=self.registry
        )
        self.open = Gauge("nightshift_webhook_open", "Deliveries that wait or run.", ["state"], registry=self.registry)
        self.oldest = Gauge(
            "nightshift_webhook_oldest_seconds", "Age of the oldest delivery that waits.", registry=self.registry
        )
        self.settings_current = Gauge(
            "nightshift_webhook_settings_current",
            "1: the settings are those of the files; 0: what stands there now is wrong, and the earlier ones count.",
            registry=self.registry,
        )
        self.settings_current.set(1)
        self.server_up = Gauge(
            "nightshift_webhook_prefect_up",
            "Whether the Prefect server answered last, and knew us.",
            registry=self.registry,
        )
