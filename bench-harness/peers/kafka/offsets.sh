# How many records the topic has taken: the sum of the ends of its partitions, `topic:partition:end` each.
set -e
ends=$(sh {dir}/tool.sh org.apache.kafka.tools.GetOffsetShell --bootstrap-server 127.0.0.1:{aux} --topic clicks)
echo "$ends" | awk -F: '{ sum += $3 } END { print sum }'
