// The JDK's own HTTP server and client. `java Peer server PORT` or `java Peer client REPEAT URL...`; see servers.ts.
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.util.concurrent.Executors;

public class Peer {
  public static void main(String[] arguments) throws Exception {
    if (arguments[0].equals("server")) serve(Integer.parseInt(arguments[1]));
    else ask(arguments);
  }

  static void serve(int port) throws IOException {
    HttpServer server = HttpServer.create(new InetSocketAddress("127.0.0.1", port), 1024);
    server.setExecutor(Executors.newFixedThreadPool(8));
    server.createContext("/", Peer::answer);
    server.start();
    System.out.println("ready");
  }

  static void answer(HttpExchange exchange) throws IOException {
    byte[] body = exchange.getRequestBody().readAllBytes();
    String path = exchange.getRequestURI().getPath();
    if (path.equals("/echo")) reply(exchange, 201, body);
    else if (path.equals("/large")) reply(exchange, 200, new byte[300_000]);
    else if (path.equals("/missing")) reply(exchange, 404, "no\n".getBytes());
    else if (path.equals("/broken")) reply(exchange, 503, "no\n".getBytes());
    else reply(exchange, 200, "pong\n".getBytes());
  }

  static void reply(HttpExchange exchange, int status, byte[] body) throws IOException {
    boolean head = exchange.getRequestMethod().equals("HEAD");
    exchange.sendResponseHeaders(status, head ? -1 : body.length);
    if (!head) exchange.getResponseBody().write(body);
    exchange.close();
  }

  static void ask(String[] arguments) throws Exception {
    // As it comes: over plain text it offers HTTP/2 in every first request of a connection, and goes on without.
    HttpClient client = HttpClient.newHttpClient();
    int repeat = Integer.parseInt(arguments[1]);
    for (int i = 2; i < arguments.length; i++) {
      String base = arguments[i];
      for (int k = 0; k < repeat; k++) {
        send(client, HttpRequest.newBuilder(URI.create(base + "/ping/7?secret=s3cret")).GET());
        send(client, HttpRequest.newBuilder(URI.create(base + "/missing")).GET());
        send(client, HttpRequest.newBuilder(URI.create(base + "/broken")).GET());
        send(client, HttpRequest.newBuilder(URI.create(base + "/ping/8")).method("HEAD", BodyPublishers.noBody()));
        send(client, HttpRequest.newBuilder(URI.create(base + "/echo")).POST(BodyPublishers.ofString("y".repeat(5000))));
      }
      send(client, HttpRequest.newBuilder(URI.create(base + "/large")).GET());
    }
  }

  static void send(HttpClient client, HttpRequest.Builder request) throws Exception {
    client.send(request.build(), BodyHandlers.ofByteArray());
  }
}
