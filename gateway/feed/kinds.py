"""The feed that fits a Redis URL: of one server, of the primary that Sentinels know, of a Cluster."""

from gateway.feed.cluster_feed import ClusterFeed
from gateway.feed.link import connection_to
from gateway.feed.observer import Feed, FeedObserver
from gateway.feed.sentinel_feed import SentinelFeed
from gateway.feed.server_feed import ServerFeed
from publisher.transport.url import RedisUrl


def feed_for(url: str, observer: FeedObserver, probe_channel: str) -> Feed:
    """Raises `ValueError` for a URL that is none."""
    parsed = check_redis_url(url)
    if parsed.kind == "cluster":
        return ClusterFeed(parsed, observer, probe_channel)
    if parsed.kind == "sentinel":
        return SentinelFeed(parsed, observer, probe_channel=probe_channel)
    return ServerFeed(url, observer, probe_channel=probe_channel)


def check_redis_url(url: str) -> RedisUrl:
    """Raises `ValueError` for a URL that is none, or that has options which no connection knows."""
    parsed = RedisUrl.parse(url)
    try:
        connection_to(url if parsed.kind == "server" else parsed.at(*parsed.hosts[0]))
    except TypeError as error:
        raise ValueError(str(error).rpartition(") ")[2]) from None
    return parsed
