import java.util.Map;
import java.util.TreeSet;
import org.apache.kafka.common.config.ConfigDef;
import org.apache.kafka.coordinator.group.GroupConfig;
import org.apache.kafka.server.config.AbstractKafkaConfig;
import org.apache.kafka.server.config.DynamicBrokerConfig;
import org.apache.kafka.storage.internals.log.LogConfig;

/**
 * Prints the configs that DescribeConfigs of this Kafka lists, for a broker, a topic and a group: scope, name, type,
 * how it may be changed while a broker runs, and the default, if there is one. Internal ones are left out, as Kafka
 * does.
 */
public final class Configs {
    private Configs() {}

    public static void main(String[] arguments) throws Exception {
        print("broker", AbstractKafkaConfig.CONFIG_DEF, DynamicBrokerConfig.dynamicConfigUpdateModes());
        print("topic", LogConfig.configDefCopy(), Map.of());
        print("group", GroupConfig.CONFIG_DEF, Map.of());
    }

    private static void print(String scope, ConfigDef definitions, Map<String, String> modes) {
        for (String name : new TreeSet<>(definitions.names())) {
            ConfigDef.ConfigKey key = definitions.configKeys().get(name);
            if (key.internalConfig) {
                continue;
            }
            String mode = scope.equals("broker") ? modes.getOrDefault(name, "read-only") : "-";
            String value = key.hasDefault() && key.defaultValue != null
                    ? "=" + ConfigDef.convertToString(key.defaultValue, key.type)
                    : "";
            Out.line(scope + " " + name + " " + key.type + " " + mode + value);
        }
    }
}
