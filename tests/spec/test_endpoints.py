"""Where a node may be said to be."""

from __future__ import annotations

import pytest

from flowbatch.spec.endpoints import ENDPOINTS, endpoint_of


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("local", "local"),
        ("unix:///var/run/docker.sock", "local"),
        ("unix:///run/other.sock", "unix:///run/other.sock"),
        ("tcp://farm:2376/", "tcp://farm:2376"),
        ("tcp://[fd00::1]:2376", "tcp://[fd00::1]:2376"),
        ("https://farm:2376", "https://farm:2376"),
        ("context:farm-2", "context:farm-2"),
        ("ssh://me@farm", "ssh://me@farm"),
        ("ssh://farm:2222/run/user/1000/docker.sock", "ssh://farm:2222/run/user/1000/docker.sock"),
    ],
)
def test_endpoints(text: str, endpoint: str) -> None:
    assert endpoint_of(text) == endpoint


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (7, f"an endpoint is text, found 7; {ENDPOINTS}"),
        ("", f"an endpoint is text, found ''; {ENDPOINTS}"),
        ("tcp://farm", "tcp://farm: a port is missing: 2376 is usual with TLS, 2375 without"),
        ("tcp://farm:many", "'tcp://farm:many' is not an endpoint: "),
        ("tcp://farm:2376/path", "'tcp://farm:2376/path' is not an endpoint"),
        ("tcp://me:secret@farm:2376", "an endpoint holds no password"),
        ("unix://run/docker.sock", "'unix://run/docker.sock' is not an endpoint"),
        ("ssh://-oProxyCommand=x", "'ssh://-oProxyCommand=x' is not an endpoint"),
        ("ssh://-lx@farm", "'ssh://-lx@farm' is not an endpoint"),
        ("ssh://farm/a b", "'ssh://farm/a b' is not an endpoint"),
        ("context:../../etc", "'context:../../etc' is not an endpoint"),
        ("ftp://farm", "'ftp://farm' is not an endpoint"),
    ],
)
def test_what_is_none(text: object, error: str) -> None:
    with pytest.raises(ValueError) as caught:
        endpoint_of(text)
    assert str(caught.value).startswith(error)
