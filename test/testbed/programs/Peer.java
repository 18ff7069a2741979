// The testbed's workload written in Java: threads and blocking sockets, plain TCP and HTTP/1.1, server and client in
// one process. The commands it takes on stdin and what it answers are described in ../peers.ts.
import java.io.BufferedInputStream;
import java.io.EOFException;
import java.io.IOException;
import java.io.InputStream;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.TreeMap;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

public final class Peer {
  private static final String NAME = System.getenv("PEER_NAME");
  private static final Map<String, long[]> SERVED = new TreeMap<>();
  private static int open;

  /** A socket that counts the payload of both directions. */
  private static final class Connection {
    final Socket socket;
    final InputStream input;
    long sent;
    long received;

    Connection(Socket socket) throws IOException {
      this.socket = socket;
      socket.setTcpNoDelay(true);
      input = new BufferedInputStream(socket.getInputStream(), 65536);
    }

    String line() throws IOException {
      StringBuilder text = new StringBuilder();
      for (int c = input.read(); c != '\n'; c = input.read()) {
        if (c < 0) throw new EOFException();
        text.append((char) c);
      }
      received += text.length() + 1;
      return text.toString().stripTrailing();
    }

    void skip(int size) throws IOException {
      input.skipNBytes(size);
      received += size;
    }

    void send(String head, int body) throws IOException {
      byte[] start = head.getBytes(StandardCharsets.ISO_8859_1);
      byte[] data = java.util.Arrays.copyOf(start, start.length + body);
      socket.getOutputStream().write(data);
      sent += data.length;
    }
  }

  private record Head(String first, String peer, int length) {
    static Head read(Connection connection, String first) throws IOException {
      String peer = "?";
      int length = 0;
      for (String line = connection.line(); !line.isEmpty(); line = connection.line()) {
        String[] pair = line.split(":", 2);
        if (pair[0].equalsIgnoreCase("x-peer")) peer = pair[1].strip();
        if (pair[0].equalsIgnoreCase("content-length")) length = Integer.parseInt(pair[1].strip());
      }
      connection.skip(length);
      return new Head(first, peer, length);
    }
  }

  private static void serve(Socket socket) {
    Connection connection = null;
    String who = "?";
    long requests = 0;
    try {
      connection = new Connection(socket);
      while (true) {
        String first = connection.line();
        if (first.startsWith("RAW ")) {
          String[] fields = first.split(" ");
          who = fields[1];
          connection.skip(Integer.parseInt(fields[2]));
          requests++;
          connection.send(NAME + "\n", Integer.parseInt(fields[3]));
        } else {
          Head head = Head.read(connection, first);
          who = head.peer();
          requests++;
          int down = (int) number(first, "[?&]down=(\\d+)", 0);
          long status = number(first, "[?&]status=(\\d+)", 0);
          String answer = "HTTP/1.1 " + (status == 0 ? 200 : status) + " Status\r\nX-Peer: " + NAME;
          connection.send(answer + "\r\nContent-Length: " + down + "\r\n\r\n", down);
        }
      }
    } catch (IOException e) {
      close(socket);
    }
    synchronized (SERVED) {
      long[] total = SERVED.computeIfAbsent(who, key -> new long[5]);
      add(total, 1, requests, connection == null ? 0 : connection.sent, connection == null ? 0 : connection.received, 0);
      open--;
    }
  }

  private static void add(long[] total, long... more) {
    for (int i = 0; i < more.length; i++) total[i] += more[i];
  }

  private static void close(Socket socket) {
    try {
      socket.close();
    } catch (IOException e) {
      // Closed already.
    }
  }

  private static long number(String text, String pattern, long otherwise) {
    Matcher matcher = Pattern.compile(pattern).matcher(text);
    return matcher.find() ? Long.parseLong(matcher.group(1)) : otherwise;
  }

  private static String text(String command, String key) {
    Matcher matcher = Pattern.compile("\"" + key + "\":\"([^\"]*)\"").matcher(command);
    return matcher.find() ? matcher.group(1) : "";
  }

  private static int field(String command, String key) {
    return (int) number(command, "\"" + key + "\":(\\d+)", 0);
  }

  private static void call(String command) {
    Map<String, long[]> results = new TreeMap<>();
    for (int i = field(command, "connections"); i > 0; i--) {
      Socket socket = new Socket();
      String[] who = {"?"};
      long[] counted = new long[5];
      try {
        socket.connect(new InetSocketAddress(text(command, "host"), field(command, "port")), 10_000);
        counted[0] = 1;
        Connection connection = new Connection(socket);
        try {
          talk(command, connection, who, counted);
        } finally {
          counted[2] = connection.sent;
          counted[3] = connection.received;
        }
      } catch (IOException | InterruptedException e) {
        counted[4] = 1;
      }
      close(socket);
      add(results.computeIfAbsent(who[0], key -> new long[5]), counted);
    }
    reply(field(command, "id"), json(results));
  }

  private static void talk(String command, Connection connection, String[] who, long[] counted)
      throws IOException, InterruptedException {
    int up = field(command, "up");
    int down = field(command, "down");
    for (int i = field(command, "requests"); i > 0; i--) {
      if (text(command, "protocol").equals("http")) {
        String path = text(command, "path") + "?down=" + down + "&status=" + field(command, "status");
        String head = (up > 0 ? "POST " : "GET ") + path + " HTTP/1.1\r\nHost: " + text(command, "host");
        connection.send(head + "\r\nX-Peer: " + NAME + "\r\nContent-Length: " + up + "\r\n\r\n", up);
        who[0] = Head.read(connection, connection.line()).peer();
      } else {
        connection.send("RAW " + NAME + " " + up + " " + down + "\n", up);
        who[0] = connection.line();
        connection.skip(down);
      }
      counted[1]++;
      Thread.sleep(field(command, "pauseMillis"));
    }
  }

  private static String json(Map<String, long[]> counts) {
    StringBuilder text = new StringBuilder("{");
    String[] names = {"connections", "requests", "sent", "received", "failed"};
    counts.forEach((who, numbers) -> {
      text.append(text.length() > 1 ? "," : "").append('"').append(who).append("\":{");
      for (int i = 0; i < names.length; i++) {
        text.append(i > 0 ? "," : "").append('"').append(names[i]).append("\":").append(numbers[i]);
      }
      text.append('}');
    });
    return text.append('}').toString();
  }

  private static synchronized void reply(int id, String result) {
    System.out.println("{\"id\":" + id + ",\"result\":" + result + "}");
  }

  private static void accept(ServerSocket server) {
    try {
      while (true) {
        Socket socket = server.accept();
        synchronized (SERVED) {
          open++;
        }
        new Thread(() -> serve(socket)).start();
      }
    } catch (IOException e) {
      System.exit(1);
    }
  }

  public static void main(String[] args) throws IOException {
    String port = System.getenv().getOrDefault("PEER_PORT", "0");
    if (!port.equals("0")) {
      ServerSocket server = new ServerSocket(Integer.parseInt(port), 512);
      new Thread(() -> accept(server)).start();
    }
    reply(0, "\"ready\"");
    var input = new java.util.Scanner(System.in);
    while (input.hasNextLine()) {
      String command = input.nextLine();
      if (text(command, "op").equals("call")) new Thread(() -> call(command)).start();
      if (text(command, "op").equals("report")) {
        synchronized (SERVED) {
          reply(field(command, "id"), "{\"served\":" + json(SERVED) + ",\"open\":" + open + "}");
        }
      }
    }
    System.exit(0);
  }
}
