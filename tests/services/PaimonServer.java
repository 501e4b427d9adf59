package tests;

import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.math.BigDecimal;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.time.Duration;
import java.time.LocalDate;
import java.time.LocalDateTime;
import java.util.ArrayList;
import java.util.Base64;
import java.util.HashMap;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import okhttp3.mockwebserver.MockWebServer;
import org.apache.paimon.Snapshot;
import org.apache.paimon.catalog.Catalog;
import org.apache.paimon.catalog.CatalogContext;
import org.apache.paimon.catalog.CatalogFactory;
import org.apache.paimon.catalog.Identifier;
import org.apache.paimon.data.BinaryRow;
import org.apache.paimon.data.BinaryString;
import org.apache.paimon.data.Decimal;
import org.apache.paimon.data.GenericRow;
import org.apache.paimon.data.InternalRow;
import org.apache.paimon.data.Timestamp;
import org.apache.paimon.disk.IOManager;
import org.apache.paimon.options.ExpireConfig;
import org.apache.paimon.options.Options;
import org.apache.paimon.reader.RecordReader;
import org.apache.paimon.rest.RESTCatalogServer;
import org.apache.paimon.rest.auth.AuthProvider;
import org.apache.paimon.rest.auth.BearTokenAuthProvider;
import org.apache.paimon.rest.responses.ConfigResponse;
import org.apache.paimon.schema.Schema;
import org.apache.paimon.schema.SchemaChange;
import org.apache.paimon.shade.jackson2.com.fasterxml.jackson.databind.JsonNode;
import org.apache.paimon.shade.jackson2.com.fasterxml.jackson.databind.ObjectMapper;
import org.apache.paimon.table.BucketMode;
import org.apache.paimon.table.FileStoreTable;
import org.apache.paimon.table.sink.BatchTableCommit;
import org.apache.paimon.table.sink.BatchTableWrite;
import org.apache.paimon.table.sink.BatchWriteBuilder;
import org.apache.paimon.table.source.DataSplit;
import org.apache.paimon.table.source.ReadBuilder;
import org.apache.paimon.table.source.Split;
import org.apache.paimon.types.DataField;
import org.apache.paimon.types.DataType;
import org.apache.paimon.types.DataTypeJsonParser;
import org.apache.paimon.types.DecimalType;
import org.apache.paimon.types.RowKind;

/**
 * Tables of Apache Paimon, made and read by its own implementation on a test's command.
 *
 * <p>Listens on loopback. Each POST is one command in JSON, {"do": name, ...}; its answer is JSON.
 * Rows are lists of values in the order of the columns; bytes are base64, times are ISO texts.
 */
public class PaimonServer {
  private static final ObjectMapper JSON = new ObjectMapper();
  private static final Map<Integer, RestCatalog> REST = new HashMap<>();

  public static void main(String[] args) throws Exception {
    InetSocketAddress address =
        new InetSocketAddress(InetAddress.getLoopbackAddress(), Integer.parseInt(args[0]));
    HttpServer server = HttpServer.create(address, 16);
    server.createContext("/", PaimonServer::answer);
    server.start();
  }

  private static void answer(HttpExchange exchange) throws java.io.IOException {
    int status = 200;
    byte[] body;
    try {
      body = JSON.writeValueAsBytes(carryOut(JSON.readTree(exchange.getRequestBody())));
    } catch (Throwable e) {
      StringWriter text = new StringWriter();
      e.printStackTrace(new PrintWriter(text));
      status = 500;
      body = text.toString().getBytes("UTF-8");
    }
    exchange.sendResponseHeaders(status, body.length);
    exchange.getResponseBody().write(body);
    exchange.close();
  }

  private static Object carryOut(JsonNode command) throws Exception {
    switch (command.get("do").asText()) {
      case "ping":
        return "pong";
      case "create":
        return create(command);
      case "drop":
        return drop(command);
      case "alter":
        return alter(command);
      case "write":
        return write(command);
      case "compact":
        return compact(command);
      case "truncate":
        return truncate(command);
      case "expire":
        return expire(command);
      case "rollback":
        table(command).rollbackTo(command.get("snapshot").asLong());
        return "done";
      case "read":
        return read(command);
      case "snapshots":
        return snapshots(command);
      case "rest-open":
        return RestCatalog.open(command);
      case "rest-close":
        REST.get(command.get("port").asInt()).close();
        return "done";
      case "rest-deny":
        REST.get(command.get("port").asInt()).catalog.addNoPermissionTable(identifier(command));
        return "done";
      default:
        throw new IllegalArgumentException("no such command: " + command);
    }
  }

  private static Catalog catalog(JsonNode command) {
    Options options = new Options();
    command.get("catalog").fields().forEachRemaining(e -> options.set(e.getKey(), e.getValue().asText()));
    return CatalogFactory.createCatalog(CatalogContext.create(options));
  }

  private static Identifier identifier(JsonNode command) {
    return Identifier.fromString(command.get("table").asText());
  }

  private static FileStoreTable table(JsonNode command) throws Exception {
    try (Catalog catalog = catalog(command)) {
      return (FileStoreTable) catalog.getTable(identifier(command));
    }
  }

  private static Object create(JsonNode command) throws Exception {
    Schema.Builder schema = Schema.newBuilder();
    command.get("columns").fields().forEachRemaining(e -> schema.column(e.getKey(), type(e.getValue())));
    schema.primaryKey(texts(command.get("primaryKey")));
    schema.partitionKeys(texts(command.get("partitions")));
    if (command.has("options")) {
      command.get("options").fields().forEachRemaining(e -> schema.option(e.getKey(), e.getValue().asText()));
    }
    try (Catalog catalog = catalog(command)) {
      catalog.createDatabase(identifier(command).getDatabaseName(), true);
      catalog.createTable(identifier(command), schema.build(), false);
    }
    return "done";
  }

  private static DataType type(JsonNode name) {
    return DataTypeJsonParser.parseDataType(name);
  }

  private static Object drop(JsonNode command) throws Exception {
    try (Catalog catalog = catalog(command)) {
      catalog.dropTable(identifier(command), true);
    }
    return "done";
  }

  private static Object alter(JsonNode command) throws Exception {
    List<SchemaChange> changes = new ArrayList<>();
    for (JsonNode one : command.get("changes")) {
      String column = one.get(1).asText();
      switch (one.get(0).asText()) {
        case "add":
          changes.add(SchemaChange.addColumn(column, type(one.get(2))));
          break;
        case "drop":
          changes.add(SchemaChange.dropColumn(column));
          break;
        case "rename":
          changes.add(SchemaChange.renameColumn(column, one.get(2).asText()));
          break;
        case "widen":
          changes.add(SchemaChange.updateColumnType(column, type(one.get(2))));
          break;
        default:
          throw new IllegalArgumentException("no such change: " + one);
      }
    }
    try (Catalog catalog = catalog(command)) {
      catalog.alterTable(identifier(command), changes, false);
    }
    return "done";
  }

  /** Commits rows, each a row kind and its values; with "overwrite" they replace a partition. */
  private static Object write(JsonNode command) throws Exception {
    FileStoreTable table = table(command);
    BucketMode mode = table.bucketMode();
    boolean dynamic = mode == BucketMode.HASH_DYNAMIC || mode == BucketMode.KEY_DYNAMIC;
    BatchWriteBuilder builder = table.newBatchWriteBuilder();
    if (command.has("overwrite")) {
      Map<String, String> partition = new HashMap<>();
      command.get("overwrite").fields().forEachRemaining(e -> partition.put(e.getKey(), e.getValue().asText()));
      builder.withOverwrite(partition);
    }
    try (BatchTableWrite write = builder.newWrite(); BatchTableCommit commit = builder.newCommit()) {
      write.withIOManager(manager());
      List<DataField> fields = table.rowType().getFields();
      for (JsonNode one : command.get("rows")) {
        GenericRow row = new GenericRow(RowKind.fromShortString(one.get(0).asText()), fields.size());
        for (int i = 0; i < fields.size(); i++) {
          row.setField(i, value(one.get(1).get(i), fields.get(i).type()));
        }
        if (dynamic) {
          write.write(row, 0);
        } else {
          write.write(row);
        }
      }
      commit.commit(write.prepareCommit());
    }
    return "done";
  }

  /** Compacts every bucket in full, also of a table whose writers compact nothing. */
  private static Object compact(JsonNode command) throws Exception {
    Map<String, String> own = new HashMap<>();
    own.put("write-only", "false");
    FileStoreTable table = table(command).copy(own);
    Map<BinaryRow, Set<Integer>> buckets = new LinkedHashMap<>();
    table.store().newScan().plan().files().forEach(
        file -> buckets.computeIfAbsent(file.partition().copy(), p -> new LinkedHashSet<>()).add(file.bucket()));
    BatchWriteBuilder builder = table.newBatchWriteBuilder();
    try (BatchTableWrite write = builder.newWrite(); BatchTableCommit commit = builder.newCommit()) {
      write.withIOManager(manager());
      for (Map.Entry<BinaryRow, Set<Integer>> entry : buckets.entrySet()) {
        for (int bucket : entry.getValue()) {
          write.compact(entry.getKey(), bucket, true);
        }
      }
      commit.commit(write.prepareCommit());
    }
    return "done";
  }

  private static Object truncate(JsonNode command) throws Exception {
    try (BatchTableCommit commit = table(command).newBatchWriteBuilder().newCommit()) {
      commit.truncateTable();
    }
    return "done";
  }

  /** Expires snapshots, whatever their age, but the newest "retain" and those of consumers. */
  private static Object expire(JsonNode command) throws Exception {
    int retain = command.get("retain").asInt();
    ExpireConfig config =
        ExpireConfig.builder()
            .snapshotRetainMin(retain)
            .snapshotRetainMax(retain)
            .snapshotTimeRetain(Duration.ofMillis(1))
            .build();
    return table(command).newExpireSnapshots().config(config).expire();
  }

  private static Object read(JsonNode command) throws Exception {
    FileStoreTable table = table(command);
    if (command.has("snapshot")) {
      Map<String, String> at = new HashMap<>();
      at.put("scan.snapshot-id", command.get("snapshot").asText());
      table = table.copy(at);
    }
    List<DataField> fields = table.rowType().getFields();
    InternalRow.FieldGetter[] getters = new InternalRow.FieldGetter[fields.size()];
    for (int i = 0; i < getters.length; i++) {
      getters[i] = InternalRow.createFieldGetter(fields.get(i).type(), i);
    }
    ReadBuilder builder = table.newReadBuilder();
    List<List<Object>> rows = new ArrayList<>();
    for (Split split : builder.newScan().plan().splits()) {
      try (RecordReader<InternalRow> reader =
          builder.newRead().withIOManager(manager()).createReader((DataSplit) split)) {
        reader.forEachRemaining(row -> {
          List<Object> values = new ArrayList<>();
          for (InternalRow.FieldGetter getter : getters) {
            values.add(shown(getter.getFieldOrNull(row)));
          }
          rows.add(values);
        });
      }
    }
    return rows;
  }

  private static Object snapshots(JsonNode command) throws Exception {
    List<Object> found = new ArrayList<>();
    FileStoreTable table = table(command);
    for (Iterator<Snapshot> each = table.snapshotManager().snapshots(); each.hasNext(); ) {
      Snapshot snapshot = each.next();
      found.add(List.of(snapshot.id(), snapshot.commitKind().name()));
    }
    return found;
  }

  private static IOManager manager() {
    return IOManager.create(System.getProperty("java.io.tmpdir"));
  }

  private static List<String> texts(JsonNode list) {
    List<String> texts = new ArrayList<>();
    if (list != null) {
      list.forEach(one -> texts.add(one.asText()));
    }
    return texts;
  }

  private static Object value(JsonNode value, DataType type) {
    if (value == null || value.isNull()) {
      return null;
    }
    switch (type.getTypeRoot()) {
      case BOOLEAN:
        return value.asBoolean();
      case TINYINT:
        return (byte) value.asInt();
      case SMALLINT:
        return (short) value.asInt();
      case INTEGER:
        return value.asInt();
      case BIGINT:
        return value.asLong();
      case FLOAT:
        return (float) value.asDouble();
      case DOUBLE:
        return value.asDouble();
      case DATE:
        return (int) LocalDate.parse(value.asText()).toEpochDay();
      case TIMESTAMP_WITHOUT_TIME_ZONE:
      case TIMESTAMP_WITH_LOCAL_TIME_ZONE:
        return Timestamp.fromLocalDateTime(LocalDateTime.parse(value.asText()));
      case DECIMAL:
        DecimalType decimal = (DecimalType) type;
        return Decimal.fromBigDecimal(
            new BigDecimal(value.asText()), decimal.getPrecision(), decimal.getScale());
      case BINARY:
      case VARBINARY:
        return Base64.getDecoder().decode(value.asText());
      default:
        return BinaryString.fromString(value.asText());
    }
  }

  private static Object shown(Object value) {
    if (value instanceof byte[]) {
      return Base64.getEncoder().encodeToString((byte[]) value);
    }
    return value == null || value instanceof Number || value instanceof Boolean ? value : value.toString();
  }

  /** The catalog server of the reference implementation's own tests, which may go and come back. */
  private static class RestCatalog {
    final RESTCatalogServer catalog;
    final AuthProvider login;
    MockWebServer server;

    RestCatalog(String warehouse, String token) {
      Map<String, String> told = new HashMap<>();
      told.put("prefix", "paimon");
      told.put("warehouse", "lake");
      login = new BearTokenAuthProvider(token);
      catalog = new RESTCatalogServer(warehouse, login, new ConfigResponse(told, new HashMap<>()), "lake");
    }

    static Object open(JsonNode command) throws Exception {
      int port = command.get("port").asInt();
      RestCatalog one = REST.get(port);
      if (one == null) {
        one = new RestCatalog(command.get("warehouse").asText(), command.get("token").asText());
        REST.put(port, one);
      }
      one.server = new MockWebServer();
      one.server.setDispatcher(one.catalog.initDispatcher(one.login));
      one.server.start(InetAddress.getLoopbackAddress(), port);
      return "done";
    }

    void close() throws Exception {
      server.shutdown();
    }
  }
}
