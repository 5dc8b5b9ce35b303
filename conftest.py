"""Wiring only: the plugins that make pytest a conformance suite."""

from fixtures.plugins import PLUGINS

pytest_plugins = ["pytester", "fixtures.inner_project", *PLUGINS]
