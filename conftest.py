"""Wiring only: the plugins that make pytest a conformance suite."""

pytest_plugins = [
    "pytester",
    "fixtures.inner_project",
    "fixtures.matrix.plugin",
    "fixtures.datasets.plugin",
    "fixtures.isolation.plugin",
    "fixtures.precision.plugin",
    "fixtures.records.plugin",
    "fixtures.reports.plugin",
]
