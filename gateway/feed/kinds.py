"""Which feed a Redis URL needs: of one server, of the primary that Sentinels know, or of a Cluster."""

from gateway.feed.cluster_feed import ClusterFeed
from gateway.feed.interfaces import Feed, FeedObserver
from gateway.feed.link import connection_to
from gateway.feed.sentinel_feed import SentinelFeed
from gateway.feed.server_feed import ServerFeed
from publisher.names import own_channel
from publisher.transport.url import RedisUrl


def feed_for(url: str, observer: FeedObserver, *, replica_id: str, namespace: str = "") -> Feed:
    """Raises `ValueError` for a bad URL."""
    parsed = check_redis_url(url)
    probe_channel = own_channel(f"probe:{replica_id}", namespace)
    memory_channel = own_channel("memory", namespace)
    if parsed.kind == "cluster":
        return ClusterFeed(parsed, observer, probe_channel=probe_channel, memory_channel=memory_channel)
    if parsed.kind == "sentinel":
        return SentinelFeed(parsed, observer, probe_channel=probe_channel, memory_channel=memory_channel)
    return ServerFeed(url, observer, probe_channel=probe_channel, memory_channel=memory_channel)


def check_redis_url(url: str) -> RedisUrl:
    """Raises `ValueError` for a bad URL, and for one with an unknown option."""
    parsed = RedisUrl.parse(url)
    try:
        connection_to(url if parsed.kind == "server" else parsed.at(*parsed.hosts[0]))
    except TypeError as error:
        raise ValueError(str(error).rpartition(") ")[2]) from None
    return parsed
