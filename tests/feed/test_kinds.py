"""Which feed a Redis URL gets, and what is said of one that is none."""

import pytest

from gateway.feed.cluster_feed import ClusterFeed
from gateway.feed.kinds import check_redis_url, feed_for
from gateway.feed.sentinel_feed import SentinelFeed
from gateway.feed.server_feed import ServerFeed
from tests.recording_observer import RecordingObserver


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("redis://127.0.0.1:6379/0", ServerFeed),
        ("rediss://user:password@host/3?ssl_cert_reqs=required", ServerFeed),
        ("unix:///run/redis.sock", ServerFeed),
        ("redis+sentinel://one,two:26380/mymaster", SentinelFeed),
        ("rediss+sentinel://:secret@one/mymaster/2?sentinel_password=other", SentinelFeed),
        ("redis+cluster://one,two:7001", ClusterFeed),
        ("rediss+cluster://user:secret@[::1]:7001", ClusterFeed),
    ],
)
async def test_each_kind_of_url_has_its_feed(url: str, kind: type) -> None:
    assert type(feed_for(url, RecordingObserver(), replica_id="a")) is kind


@pytest.mark.parametrize(
    "url", ["", "http://host", "redis+sentinel://host", "redis+cluster://host/1", "redis://host/?no_such_option=1",
            "redis+cluster://host?no_such_option=1", "redis+cluster://host:0"],
)  # fmt: skip
def test_a_url_that_is_none_is_a_value_error(url: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        check_redis_url(url)
