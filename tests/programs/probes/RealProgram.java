// Threads in a pool, a monitor, a sleep, a file.
import java.nio.file.*;
import java.util.*;
import java.util.concurrent.*;

class RealProgram {
    static int total;

    static synchronized void add(int n) { total += n; }

    public static void main(String[] words) throws Exception {
        ExecutorService pool = Executors.newFixedThreadPool(4);
        List<Future<Integer>> found = new ArrayList<>();
        for (int i = 0; i < 20; i++) {
            int n = i;
            found.add(pool.submit(() -> { add(n); return n * n; }));
        }
        int sum = 0;
        for (Future<Integer> one : found) sum += one.get();
        pool.shutdown();
        System.out.println(sum + " " + total + " " + pool.awaitTermination(9, TimeUnit.SECONDS));
        Thread.sleep(20);
        Files.writeString(Path.of("file"), "text");
        System.out.println(Files.readString(Path.of("file")));
    }
}
