# The broker, in the foreground.
set -e
jars=$(dirname '{kafka}')/jars
sh {dir}/tool.sh kafka.tools.StorageTool format --cluster-id AAAAAAAAAAAAAAAAAAAAAQ --config {dir}/broker.properties
exec '{java}' -Xms1g -Xmx1g -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -cp "$jars/*" kafka.Kafka {dir}/broker.properties
