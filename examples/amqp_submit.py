"""Submits a job by AMQP alone and prints the scheduler's answer, for training queues that speak AMQP already.

    pip install pika
    BERTH_AMQP_URL=amqp://… python3 examples/amqp_submit.py '{"image": "berth/digits:1", "command": ["python3", "train.py"]}' [KEY]

The answer is what HTTP would give: {"status": 201, "body": {"id": …}}. The same KEY submits the same job once.
"""

import os
import sys
import uuid

import pika

spec, key = sys.argv[1], (sys.argv[2:] or [str(uuid.uuid4())])[0]
parameters = pika.URLParameters(os.environ["BERTH_AMQP_URL"])
with pika.BlockingConnection(parameters) as connection:
    channel = connection.channel()
    replies = channel.queue_declare(f"berth.reply.{parameters.credentials.username}.{uuid.uuid4()}", exclusive=True).method.queue
    channel.queue_bind(replies, "berth.replies", replies)
    properties = pika.BasicProperties(
        type="job.submit.v1", content_type="application/json", delivery_mode=2,  # 2: survives a restart of the broker
        message_id=key, correlation_id=key, reply_to=replies,
        user_id=parameters.credentials.username,  # the broker vouches for it: the job's owner
    )
    channel.confirm_delivery()  # raises unless the broker has it for good
    channel.basic_publish("berth.requests", "job.submit", spec.encode(), properties, mandatory=True)
    _, _, answer = next(channel.consume(replies, auto_ack=True, inactivity_timeout=30))
    print(answer.decode() if answer else f"no answer yet; the job is submitted with the key {key}")
