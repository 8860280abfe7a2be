"""A small shop that `cargo xtask demo` looks into. Python 3.8 to 3.15, standard library only.

Threads answer HTTP on the loopback interface out of an SQLite file; a second process asks. The
product pages are slow: `refresh_prices` holds the lock of the price list while it waits for its
supplier.
Prints `ready`; ends when its standard input does.
"""

import hashlib
import http.client
import http.server
import itertools
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time

PRODUCTS = 200
CLIENTS = 6
PRICES_LOCK = threading.Lock()
PRICES = {}


def ask_supplier():
    """The answer takes a while."""
    time.sleep(0.08)
    now = time.time()
    return {product: round(10 + (product * now) % 90, 2) for product in range(PRODUCTS)}


def refresh_prices():
    """Renews the price list: the lock is held for much too long."""
    with PRICES_LOCK:
        PRICES.update(ask_supplier())


def keep_prices_fresh():
    """Renews the price list now and then."""
    while True:
        refresh_prices()
        time.sleep(0.12)


def price_of(product):
    """Looks a price up."""
    with PRICES_LOCK:
        return PRICES.get(product)


class Server(http.server.ThreadingHTTPServer):
    """A thread per connection."""

    daemon_threads = True

    def handle_error(self, request, client_address):
        """Clients may go when they like."""


class Shop(http.server.BaseHTTPRequestHandler):
    """Answers `/product/N` with what is known of it, and `/best` with a ranking, as JSON."""

    protocol_version = "HTTP/1.1"
    # An answer is one packet: a second one would wait for the acknowledgement of the first.
    wbufsize = -1
    database = None

    def do_GET(self):
        """Answers a request."""
        if self.path == "/best":
            body = self.rank_products()
        else:
            product = int(self.path.rpartition("/")[2])
            body = self.render(product, self.load(product), price_of(product))
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def rank_products(self):
        """Makes the list of the best."""
        stars = {}
        for product, given, text in self.query("SELECT product, stars, text FROM reviews"):
            stars.setdefault(product, []).append((given, text))
        best = sorted(stars, key=lambda product: mean(stars[product]), reverse=True)
        return json.dumps(best[:10]).encode()

    def load(self, product):
        """Reads the reviews, and counts the visit."""
        self.query("UPDATE visits SET count = count + 1 WHERE product = ?", product)
        return self.query("SELECT stars, text FROM reviews WHERE product = ?", product)

    def query(self, statement, *values):
        """Asks the database."""
        connection = sqlite3.connect(self.database, timeout=30)
        try:
            with connection:
                return connection.execute(statement, values).fetchall()
        finally:
            connection.close()

    def render(self, product, reviews, price):
        """Makes the answer."""
        texts = [{"stars": stars, "text": text, "tag": tag(text)} for stars, text in reviews]
        page = {"id": product, "price": price, "stars": mean(reviews), "reviews": texts}
        return json.dumps(page, indent=2).encode()

    def log_message(self, format, *args):
        """Keeps quiet."""


def mean(reviews):
    """The mean of the stars."""
    return sum(stars for stars, _ in reviews) / max(len(reviews), 1)


def tag(text):
    """A short fingerprint, made in a slow way."""
    digest = text.encode()
    for _ in range(20):
        digest = hashlib.sha256(digest).hexdigest().encode()
    return digest[:8].decode()


def make_database(path):
    """Fills the database."""
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE visits (product INTEGER PRIMARY KEY, count INTEGER)")
        connection.execute("CREATE TABLE reviews (product INTEGER, stars INTEGER, text TEXT)")
        connection.execute("CREATE INDEX by_product ON reviews (product)")
        for product in range(PRODUCTS):
            connection.execute("INSERT INTO visits VALUES (?, 0)", (product,))
            for number in range(20):
                row = (product, number % 5 + 1, "review %d of %d" % (number, product))
                connection.execute("INSERT INTO reviews VALUES (?, ?, ?)", row)
    connection.close()


def ask(port, paths):
    """One client: asks for page after page."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    for path in itertools.cycle(paths):
        connection.request("GET", path)
        connection.getresponse().read()
        time.sleep(0.005)


def generate_load(port):
    """The second process: many clients. Ends when its standard input does."""
    products = ["/product/%d" % product for product in range(PRODUCTS)]
    for paths in CLIENTS * [products] + 3 * [["/best"]]:
        threading.Thread(target=ask, args=(port, paths), daemon=True).start()
    sys.stdin.read()
    os._exit(0)


def serve():
    """The first process: the shop."""
    directory = tempfile.mkdtemp()
    Shop.database = os.path.join(directory, "shop.db")
    make_database(Shop.database)
    server = Server(("127.0.0.1", 0), Shop)
    threading.Thread(target=keep_prices_fresh, name="prices", daemon=True).start()
    threading.Thread(target=server.serve_forever, name="server", daemon=True).start()
    command = [sys.executable, __file__, "--load", str(server.server_address[1])]
    load = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
    print("ready", flush=True)
    try:
        sys.stdin.read()
    except KeyboardInterrupt:
        pass
    load.kill()
    load.wait()
    # Threads may still make files in it.
    shutil.rmtree(directory, ignore_errors=True)
    os._exit(0)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--load"]:
        generate_load(int(sys.argv[2]))
    else:
        serve()
