// Writes `kafka.txt`: bytes of every message and version as Apache Kafka itself makes them.
//
//   java -cp "$JARS/*" Vectors.java NAMES > kafka.txt
//
// JARS is a folder with kafka-clients, kafka-group-coordinator, kafka-share-coordinator, kafka-transaction-coordinator
// and kafka-server-common 4.3.1 and jackson-databind; NAMES are the messages' names. The values are chosen here, by
// name and type of the field; the bytes come from Kafka's generic schemas, and Kafka's generated classes must read and
// write them alike.
import java.lang.reflect.Constructor;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.Message;
import org.apache.kafka.common.protocol.ObjectSerializationCache;
import org.apache.kafka.common.protocol.Readable;
import org.apache.kafka.common.protocol.types.BoundField;
import org.apache.kafka.common.protocol.types.Field;
import org.apache.kafka.common.protocol.types.Schema;
import org.apache.kafka.common.protocol.types.Struct;
import org.apache.kafka.common.protocol.types.TaggedFields;
import org.apache.kafka.common.protocol.types.Type;
import org.apache.kafka.common.record.internal.MemoryRecords;

public class Vectors {
    static final String[] PACKAGES = {
        "org.apache.kafka.common.message.", "org.apache.kafka.coordinator.group.generated.",
        "org.apache.kafka.coordinator.transaction.generated.", "org.apache.kafka.coordinator.share.generated."
    };
    static int counter;

    public static void main(String[] names) throws Exception {
        System.out.println("# Made by Vectors.java with Apache Kafka 4.3.1; "
            + "one line is a message, its version, its bytes.");
        for (String name : names) {
            Class<?> type = find(name);
            Schema[] schemas = (Schema[]) type.getField("SCHEMAS").get(null);
            for (short version = 0; version < schemas.length; version++) {
                if (schemas[version] == null) {
                    continue;
                }
                counter = version + 1;
                ByteBuffer bytes = write(schemas[version]);
                bytes.flip();
                Constructor<?> reader = type.getConstructor(Readable.class, short.class);
                Message message = (Message) reader.newInstance(new ByteBufferAccessor(bytes.duplicate()), version);
                ObjectSerializationCache cache = new ObjectSerializationCache();
                ByteBuffer again = ByteBuffer.allocate(message.size(cache, version));
                message.write(new ByteBufferAccessor(again), cache, version);
                again.flip();
                if (!again.equals(bytes)) {
                    throw new IllegalStateException(name + " " + version + ": Kafka disagrees with itself");
                }
                byte[] array = new byte[bytes.remaining()];
                bytes.get(array);
                System.out.println(name + " " + version + " " + HexFormat.of().formatHex(array));
            }
        }
    }

    static Class<?> find(String name) throws ClassNotFoundException {
        for (String prefix : PACKAGES) {
            for (String suffix : new String[] {"Data", ""}) {
                try {
                    return Class.forName(prefix + name + suffix);
                } catch (ClassNotFoundException absent) {
                    // The next place.
                }
            }
        }
        throw new ClassNotFoundException(name);
    }

    static ByteBuffer write(Schema schema) {
        Struct struct = struct(schema);
        ByteBuffer bytes = ByteBuffer.allocate(schema.sizeOf(struct));
        schema.write(bytes, struct);
        return bytes;
    }

    static Struct struct(Schema schema) {
        Struct struct = new Struct(schema);
        for (BoundField field : schema.fields()) {
            struct.set(field, value(field.def.type));
        }
        return struct;
    }

    static Object value(Type type) {
        counter++;
        if (type instanceof TaggedFields) {
            Map<Integer, Object> tagged = new TreeMap<>();
            for (Map.Entry<Integer, Field> entry : ((TaggedFields) type).fields().entrySet()) {
                Object value = value(entry.getValue().type);
                if (value != null) { // Null is the default, which is not written.
                    tagged.put(entry.getKey(), value);
                }
            }
            return tagged;
        }
        if (type.arrayElementType().isPresent()) {
            if (type.isNullable() && counter % 5 == 0) {
                return null;
            }
            List<Object> elements = new ArrayList<>();
            for (int index = 0; index <= counter % 2; index++) {
                elements.add(value(type.arrayElementType().get()));
            }
            return elements.toArray();
        }
        if (type instanceof Schema) {
            if (type.isNullable()) {
                return counter % 2 == 0 ? null : struct(plain((Schema) type));
            }
            return struct((Schema) type);
        }
        if (type.isNullable() && counter % 3 == 0) {
            return null;
        }
        String name = type.toString();
        switch (name.replace("COMPACT_", "").replace("NULLABLE_", "")) {
            case "BOOLEAN": return true;
            case "INT8": return (byte) counter;
            case "INT16": return (short) (counter * 257);
            case "UINT16": return counter * 257;
            case "INT32": return counter * 16843009;
            case "INT64": return counter * 72340172838076673L;
            case "UUID": return new Uuid(counter, ~(long) counter);
            case "STRING": return "text-" + counter;
            case "BYTES": return ByteBuffer.wrap(new byte[] {1, 2, (byte) counter});
            case "RECORDS": return MemoryRecords.readableRecords(ByteBuffer.wrap(new byte[] {9, 8, (byte) counter}));
            default: throw new IllegalStateException(name);
        }
    }

    static Schema plain(Schema nullable) {
        return new Schema(Arrays.stream(nullable.fields()).map(field -> field.def).toArray(Field[]::new));
    }
}
