"""An object store for tests: moto's S3, with faults.

usage: object_store.py FOLDER

Puts every file below FOLDER into the bucket `bucket`, prints the store's URL, and then does what each line of stdin says,
answering with a line: `fault NAME` from then on fails as below; `dump FOLDER` writes the bucket's objects there; `put KEY
SIZE` makes an object of so many bytes; `delete KEY`; `count` gives the number of requests since the last fault was named.

Buckets `huge-N` hold N objects that are made up as they are listed.

faults: none; slow: every answer after 0.2 s; refused: of three requests for an object, two get 503; cut: the first answer
with an object's bytes ends in the middle; unanswered: the first write of each object is done, and its connection closed;
down: 503 for ever; denied: 403 for the objects whose names have `secret` in them.
"""

import pathlib
import socket
import sys
import threading
import time
import urllib.parse

import boto3
import moto.server
import werkzeug.serving

bucket = "bucket"
fault = "none"
seen = {}
requests = 0
lock = threading.Lock()
app = moto.server.DomainDispatcherApplication(moto.server.create_backend_app)


def error(start_response, status, code):
    body = f"<Error><Code>{code}</Code><Message>as asked</Message></Error>".encode()
    start_response(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
    return [body]


def huge(environ, start_response, count):
    """A page of a listing."""
    query = urllib.parse.parse_qs(environ["QUERY_STRING"])
    first = int(query.get("continuation-token", ["0"])[0])
    last = min(first + 1000, count)
    keys = "".join(
        f"<Contents><Key>pictures/{i // 1000:06}/{i:09}.jpg</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
        f'<ETag>"e"</ETag><Size>1</Size></Contents>'
        for i in range(first, last)
    )
    more = f"<NextContinuationToken>{last}</NextContinuationToken>" if last < count else ""
    body = f'<ListBucketResult><IsTruncated>{str(last < count).lower()}</IsTruncated>{keys}{more}</ListBucketResult>'
    start_response("200 OK", [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
    return [body.encode()]


def close(environ):
    connection = environ["werkzeug.socket"]
    connection.shutdown(socket.SHUT_RDWR)


def store(environ, start_response):
    global requests
    path, method = environ["PATH_INFO"], environ["REQUEST_METHOD"]
    with lock:
        requests += 1
        key = (method, path, environ["QUERY_STRING"])
        times = seen[key] = seen.get(key, 0) + 1
    is_object = path.count("/") >= 2 and path.startswith(f"/{bucket}/") and len(path) > len(bucket) + 2
    if path.startswith("/huge-"):
        return huge(environ, start_response, int(path.strip("/").removeprefix("huge-")))
    if fault == "slow":
        time.sleep(0.2)
    if fault == "down" or (fault == "refused" and is_object and times % 3):
        return error(start_response, "503 Slow Down", "SlowDown")
    if fault == "denied" and "secret" in path:
        return error(start_response, "403 Forbidden", "AccessDenied")
    if fault == "unanswered" and is_object and method in ("PUT", "POST") and times == 1:
        b"".join(app(environ, lambda *_: None))
        close(environ)
        # Nobody hears it.
        start_response("200 OK", [("Content-Length", "0")])
        return []
    if fault == "cut" and is_object and method == "GET" and times == 1:
        kept = {}
        body = b"".join(app(environ, lambda status, headers, *_: kept.update(status=status, headers=headers)))
        if len(body) > 1 and kept["status"].startswith("200"):
            start_response(kept["status"], kept["headers"])

            def half():
                yield body[: len(body) // 2]
                close(environ)

            return half()
        start_response(kept["status"], kept["headers"])
        return [body]
    return app(environ, start_response)


class Quiet(werkzeug.serving.WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, *_):
        pass


def main():
    global fault, requests
    server = werkzeug.serving.make_server("127.0.0.1", 0, store, threaded=True, request_handler=Quiet)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    client = boto3.client("s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test")
    client.create_bucket(Bucket=bucket)
    root = pathlib.Path(sys.argv[1])
    for path in sorted(root.rglob("*")):
        if path.is_file():
            client.put_object(Bucket=bucket, Key=path.relative_to(root).as_posix(), Body=path.read_bytes())
    print(url, flush=True)
    for line in sys.stdin:
        match line.split():
            case ["fault", name]:
                with lock:
                    fault, requests = name, 0
                    seen.clear()
            case ["put", key, size]:
                client.put_object(Bucket=bucket, Key=key, Body=b"x" * int(size))
            case ["delete", key]:
                client.delete_object(Bucket=bucket, Key=key)
            case ["count"]:
                print(requests, flush=True)
                continue
            case ["dump", folder]:
                pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
                for found in (found for page in pages for found in page.get("Contents", [])):
                    to = pathlib.Path(folder) / found["Key"]
                    if not found["Key"].endswith("/"):
                        to.parent.mkdir(parents=True, exist_ok=True)
                        to.write_bytes(client.get_object(Bucket=bucket, Key=found["Key"])["Body"].read())
            case other:
                sys.exit(f"unknown: {other}")
        print("done", flush=True)


main()
