"""Kafka from the tests' side: librdkafka by its Python client, nothing of the engine."""
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic


def create(server, *names, partitions=3):
    admin = AdminClient({"bootstrap.servers": server.address})
    for future in admin.create_topics([NewTopic(n, partitions, server.replicas) for n in names]).values():
        future.result(30)
    # The broker tells of them a little later.
    deadline = time.time() + 30
    while not all((t := admin.list_topics(timeout=30).topics.get(n)) and len(t.partitions) == partitions for n in names):
        assert time.time() < deadline, f"{names} are not there"
        time.sleep(0.02)


def produce(server, topic, rows):
    """rows: (key, value, partition) or (key, value); waits until all are acknowledged.

    Idempotent: else a batch that is sent again (a leader that is not ready yet) comes behind later ones, and the disorder that the
    oracles count on is exceeded."""
    producer = Producer({"bootstrap.servers": server.address, "acks": "all", "enable.idempotence": True, "linger.ms": 5,
                         "queue.buffering.max.messages": 1000000})
    failed = []
    for row in rows:
        extra = {"partition": row[2]} if len(row) > 2 else {}
        while True:
            try:
                producer.produce(topic, key=row[0], value=row[1], on_delivery=lambda e, m: failed.append(e) if e else None, **extra)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    assert producer.flush(60) == 0
    assert not failed, failed[:3]


def watermarks(consumer, partition):
    """First offset and the one behind the last; a new partition, or one whose broker has just come back, may not have its leader yet."""
    end = time.time() + 30
    while True:
        try:
            return consumer.get_watermark_offsets(partition, 30)
        except KafkaException:
            if time.time() > end:
                raise
            time.sleep(0.1)


def settled(server, reader, topic, partitions):
    """What a reader of committed messages may read of each partition. A transaction is committed before its markers are in all partitions, by the broker's own account:
    whoever reads at once finds nothing. A transaction that nobody ends is not waited for longer than this."""
    everything = Consumer({"bootstrap.servers": server.address, "group.id": "reader", "isolation.level": "read_uncommitted"})
    end = time.time() + 5
    while True:
        # In this order: what is written in between is no gap.
        written, committed = ({p: watermarks(c, TopicPartition(topic, p)) for p in partitions} for c in (everything, reader))
        if time.time() > end or all(committed[p][1] >= written[p][1] for p in partitions):
            everything.close()
            return committed
        time.sleep(0.05)


def read(server, topic):
    """All messages of a topic that are committed by now, partition by partition."""
    consumer = Consumer({"bootstrap.servers": server.address, "group.id": "reader", "enable.auto.commit": False,
                         "isolation.level": "read_committed", "enable.partition.eof": True})
    meta = consumer.list_topics(topic, 30).topics[topic]
    assert meta.error is None, meta.error
    starts = settled(server, consumer, topic, meta.partitions)
    open_ones = {p for p, (low, high) in starts.items() if low < high}
    messages = {p: [] for p in sorted(meta.partitions)}
    if open_ones:
        consumer.assign([TopicPartition(topic, p, starts[p][0]) for p in open_ones])
    deadline = time.time() + 60
    while open_ones:
        assert time.time() < deadline, f"{topic} cannot be read to its end: {open_ones}"
        for message in consumer.consume(1000, 0.1):
            partition = message.partition()
            if message.error():
                assert message.error().code() == KafkaError._PARTITION_EOF, message.error()
                open_ones.discard(partition)
                continue
            messages[partition].append(message)
    consumer.close()
    return [m for some in messages.values() for m in some]
