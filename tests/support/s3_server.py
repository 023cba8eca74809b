"""A real S3 server on loopback."""

from contextlib import contextmanager

import boto3
from moto.server import ThreadedMotoServer


@contextmanager
def running_s3(bucket="models"):
    """Gives its address, and a client of it; the bucket is empty."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    keys = {"aws_access_key_id": "key", "aws_secret_access_key": "secret", "region_name": "us-east-1"}
    client = boto3.client("s3", endpoint_url=url, **keys)
    try:
        client.create_bucket(Bucket=bucket)
        yield url, client
    finally:
        client.close()
        server.stop()
