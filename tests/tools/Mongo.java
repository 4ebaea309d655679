import de.bwaldvogel.mongo.MongoServer;
import de.bwaldvogel.mongo.backend.memory.MemoryBackend;

/** The tests' MongoDB: in memory, at HOST PORT until it is stopped. */
public class Mongo {
    public static void main(String[] args) {
        new MongoServer(new MemoryBackend()).bind(args[0], Integer.parseInt(args[1]));
    }
}
