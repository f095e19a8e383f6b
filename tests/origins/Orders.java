// A shop that never closes, as orders.c: java Orders accept|ignore|connect|nio N PORT. Its threads
// have names as Tomcat's; `nio` is as `accept`, by channels and a selector.

import java.io.IOException;
import java.io.InputStream;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.ByteBuffer;
import java.nio.channels.SelectionKey;
import java.nio.channels.Selector;
import java.nio.channels.ServerSocketChannel;
import java.nio.channels.SocketChannel;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;

final class Orders {
    /** What was read stays here. */
    static final class Crawler {
        private final List<Object> kept = new ArrayList<>();

        void fetch(Socket connection) throws IOException {
            InputStream input = connection.getInputStream();
            byte[] bytes = new byte[256];
            while (input.read(bytes) > 0) {
                continue;
            }
            kept.add(connection);
        }

        void fetch(SocketChannel connection) throws IOException {
            ByteBuffer bytes = ByteBuffer.allocateDirect(256);
            while (connection.read(bytes) >= 0) {
                bytes.clear();
            }
            kept.add(connection);
        }

        void crawl(BlockingQueue<Object> handed) throws Exception {
            while (true) {
                Object connection = handed.take();
                if (connection instanceof SocketChannel channel) {
                    fetch(channel);
                } else {
                    fetch((Socket) connection);
                }
            }
        }
    }

    interface Task {
        void run() throws Exception;
    }

    static final BlockingQueue<Object> handed = new LinkedBlockingQueue<>();
    static final List<Object> ignored = new ArrayList<>();

    static Socket takeOrder(ServerSocket listener) throws IOException {
        return listener.accept();
    }

    static void serveOrders(ServerSocket listener, int count, boolean reads) throws IOException {
        for (int i = 0; i < count; i++) {
            Socket connection = takeOrder(listener);
            (reads ? handed : ignored).add(connection);
        }
    }

    static SocketChannel takeOrder(ServerSocketChannel listener) throws IOException {
        return listener.accept();
    }

    static void serveOrders(ServerSocketChannel listener, int count) throws IOException {
        Selector selector = Selector.open();
        listener.configureBlocking(false);
        listener.register(selector, SelectionKey.OP_ACCEPT);
        for (int taken = 0; taken < count;) {
            selector.select();
            selector.selectedKeys().clear();
            SocketChannel connection = takeOrder(listener);
            if (connection != null) {
                handed.add(connection);
                taken++;
            }
        }
    }

    static Socket dialSupplier(InetAddress address, int port) throws IOException {
        return new Socket(address, port);
    }

    static void dialSuppliers(InetAddress address, int port, int count) throws IOException {
        for (int i = 0; i < count; i++) {
            handed.add(dialSupplier(address, port));
        }
    }

    static Thread start(String name, Task task) {
        Thread thread = new Thread(() -> {
            try {
                task.run();
            } catch (Exception e) {
                e.printStackTrace();
                System.exit(1);
            }
        }, name);
        thread.start();
        return thread;
    }

    public static void main(String[] args) throws Exception {
        int count = Integer.parseInt(args[1]);
        int port = Integer.parseInt(args[2]);
        InetAddress address = InetAddress.getByName("127.0.0.1");
        Crawler crawler = new Crawler();
        start("exec-3", () -> crawler.crawl(handed));
        switch (args[0]) {
            case "connect" -> start("dialer", () -> dialSuppliers(address, port, count)).join();
            case "nio" -> {
                ServerSocketChannel listener = ServerSocketChannel.open();
                listener.bind(new InetSocketAddress(address, port));
                port(listener.socket().getLocalPort());
                start("http-nio-8080-Acceptor", () -> serveOrders(listener, count));
                return;
            }
            default -> {
                ServerSocket listener = new ServerSocket(port, 64, address);
                port(listener.getLocalPort());
                start("Acceptor", () -> serveOrders(listener, count, args[0].equals("accept")));
                return;
            }
        }
        port(port);
    }

    private static void port(int port) {
        System.out.println("ready " + port + " " + ProcessHandle.current().pid());
    }
}
