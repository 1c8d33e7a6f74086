# Makes the topic, warms the broker up on another one, and becomes Sluice. What these programs cost is over before
# anything is measured.
set -e
for topic in clicks warm; do
  sh {dir}/tool.sh org.apache.kafka.tools.TopicCommand --bootstrap-server 127.0.0.1:{aux} --create --topic $topic
done
sh {dir}/tool.sh org.apache.kafka.tools.ProducerPerformance --topic warm --num-records 300000 --record-size 1024 \
  --throughput -1 --producer-props bootstrap.servers=127.0.0.1:{aux} acks=all
exec {bin}/sluice run --listen 127.0.0.1:{port}
