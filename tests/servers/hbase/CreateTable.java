import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.hbase.HBaseConfiguration;
import org.apache.hadoop.hbase.TableName;
import org.apache.hadoop.hbase.client.ColumnFamilyDescriptorBuilder;
import org.apache.hadoop.hbase.client.Connection;
import org.apache.hadoop.hbase.client.ConnectionFactory;
import org.apache.hadoop.hbase.client.TableDescriptorBuilder;

/** Makes a table with regions split in advance, which the Thrift gateway cannot: ZOOKEEPER TABLE FAMILY [SPLIT-KEY ...]. */
public class CreateTable {
    public static void main(String[] args) throws Exception {
        String[] zookeeper = args[0].split(":");
        Configuration conf = HBaseConfiguration.create();
        conf.set("hbase.zookeeper.quorum", zookeeper[0]);
        conf.set("hbase.zookeeper.property.clientPort", zookeeper[1]);
        TableName name = TableName.valueOf(args[1]);
        byte[][] splits = Arrays.stream(args, 3, args.length)
            .map(s -> s.getBytes(StandardCharsets.UTF_8)).toArray(byte[][]::new);
        try (Connection connection = ConnectionFactory.createConnection(conf); var admin = connection.getAdmin()) {
            if (admin.tableExists(name)) {
                System.out.println("exists " + args[1]);
                return;
            }
            var table = TableDescriptorBuilder.newBuilder(name)
                .setColumnFamily(ColumnFamilyDescriptorBuilder.of(args[2])).build();
            if (splits.length == 0) admin.createTable(table); else admin.createTable(table, splits);
            System.out.println("created " + args[1] + " with " + (splits.length + 1) + " regions");
        }
    }
}
