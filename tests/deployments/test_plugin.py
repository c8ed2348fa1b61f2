"""Prefect's clients understand the bare name of a deployment, and fail as before where there is none."""

import importlib.metadata
import logging

import pytest
from prefect.client.orchestration import PrefectClient, SyncPrefectClient
from prefect.exceptions import ObjectNotFound
from prefect.plugins import HookContext

from domainlm.deployments import plugin


@pytest.fixture
def bare_names(monkeypatch):
    """The plugin's hook was called, as Prefect calls it; twice, as it may be."""
    for client in (PrefectClient, SyncPrefectClient):
        monkeypatch.setattr(client, "read_deployment_by_name", client.read_deployment_by_name)
    for _ in range(2):
        plugin.setup_environment(ctx=HookContext("3", None, logging.getLogger))


def test_prefect_finds_the_plugin():
    (found,) = importlib.metadata.entry_points(group="prefect.plugins", name="domainlm")
    assert found.load() is plugin


def test_a_bare_name_is_that_of_flow_and_deployment(deployed, bare_names):
    with deployed.client() as client:
        bare = client.read_deployment_by_name("build-domain-model")
        assert bare.id == client.read_deployment_by_name("build-domain-model/build-domain-model").id


def test_an_unknown_bare_name_is_refused_in_prefects_own_words(deployed, bare_names):
    with deployed.client() as client:
        with pytest.raises(ValueError, match="Invalid deployment name format: nonsense"):
            client.read_deployment_by_name("nonsense")
        with pytest.raises(ObjectNotFound):
            client.read_deployment_by_name("build-domain-model/nonsense")


def test_another_prefect_is_left_alone(monkeypatch):
    monkeypatch.delattr("prefect.client.orchestration.SyncPrefectClient")
    before = PrefectClient.read_deployment_by_name
    plugin.setup_environment(ctx=HookContext("4", None, logging.getLogger))
    assert PrefectClient.read_deployment_by_name is before
