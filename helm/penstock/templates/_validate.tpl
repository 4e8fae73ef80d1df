{{- /* What no schema can say in a sentence: every problem at once, each with its mend. */ -}}
{{- define "penstock.validate" -}}
{{- $root := . -}}
{{- $wrong := list -}}
{{- range list "image" "kafka" "postgres" "provider" "replicas" "topics" -}}
{{- $wrong = concat $wrong (include (printf "penstock.wrong.%s" .) $root | fromJsonArray) -}}
{{- end -}}
{{- if $wrong -}}
{{- fail (printf "\n\nThe values cannot work:\n- %s\n" (join "\n- " $wrong)) -}}
{{- end -}}
{{- end }}

{{- define "penstock.wrong.image" -}}
{{- $v := .Values -}}
{{- $wrong := list -}}
{{- if not $v.image.repository -}}
{{- $wrong = append $wrong "image.repository is empty: name the image that you pushed, such as registry.example.com/penstock" -}}
{{- end -}}
{{- if and $v.simulator.enabled (not $v.simulator.image.repository) -}}
{{- $wrong = append $wrong "simulator.image.repository is empty: name the image of docker build --target simulator" -}}
{{- end -}}
{{- range $name, $image := dict "image" $v.image "simulator.image" $v.simulator.image -}}
{{- if not (regexMatch "^(sha256:[0-9a-f]{64})?$" $image.digest) -}}
{{- $wrong = append $wrong (printf "%s.digest is %q: give sha256: and 64 digits of 0-9a-f, as docker push prints it, or nothing" $name $image.digest) -}}
{{- end -}}
{{- end -}}
{{- $id := include "penstock.deployment" . -}}
{{- if gt (len $id) 40 -}}
{{- $wrong = append $wrong (printf "the deployment's id %s is longer than 40 characters: set deployment to a shorter one" $id) -}}
{{- end -}}
{{- if not (regexMatch "^[a-z0-9][a-z0-9-]*$" $id) -}}
{{- $wrong = append $wrong (printf "the deployment's id is %q: set deployment to one of a-z, 0-9 and -, with no - in front" $id) -}}
{{- end -}}
{{- toJson $wrong -}}
{{- end }}

{{- define "penstock.wrong.kafka" -}}
{{- $kafka := .Values.kafka -}}
{{- $wrong := list -}}
{{- if not $kafka.bootstrapServers -}}
{{- $wrong = append $wrong "kafka.bootstrapServers is empty: name the brokers, such as [kafka-bootstrap:9092]" -}}
{{- end -}}
{{- range $kafka.bootstrapServers -}}
{{- if not (regexMatch "^[^:,\\s]+:[0-9]{1,5}$" .) -}}
{{- $wrong = append $wrong (printf "kafka.bootstrapServers has %q: give each broker as host:port, such as kafka-bootstrap:9092" .) -}}
{{- end -}}
{{- end -}}
{{- $mechanism := $kafka.sasl.mechanism -}}
{{- if eq $mechanism "OAUTHBEARER" -}}
{{- if not (or $kafka.sasl.token.secretName $kafka.sasl.token.file) -}}
{{- $wrong = append $wrong "kafka.sasl.token.secretName is empty: OAUTHBEARER needs the Secret that holds the token, or in kafka.sasl.token.file the file that a sidecar writes" -}}
{{- end -}}
{{- else if $mechanism -}}
{{- if not (and $kafka.sasl.username $kafka.sasl.password.secretName) -}}
{{- $wrong = append $wrong (printf "kafka.sasl: %s needs username and password.secretName" $mechanism) -}}
{{- end -}}
{{- end -}}
{{- if and $kafka.sasl.token.secretName $kafka.sasl.token.file -}}
{{- $wrong = append $wrong "kafka.sasl.token has a Secret and a file: leave one out" -}}
{{- end -}}
{{- if and (not $kafka.tls.enabled) (or $kafka.tls.ca.secretName $kafka.tls.certificate.secretName) -}}
{{- $wrong = append $wrong "kafka.tls has a Secret and is off: set kafka.tls.enabled to true" -}}
{{- end -}}
{{- toJson $wrong -}}
{{- end }}

{{- define "penstock.wrong.postgres" -}}
{{- $postgres := .Values.postgres -}}
{{- $own := .Values.migrations -}}
{{- $password := or $postgres.password.secretName $postgres.password.file -}}
{{- $certificate := $postgres.tls.certificate.secretName -}}
{{- $wrong := list -}}
{{- if $postgres.dsn.secretName -}}
{{- if or $postgres.host $password -}}
{{- $wrong = append $wrong "postgres.dsn says everything: leave out postgres.host and postgres.password" -}}
{{- end -}}
{{- if and $own.enabled $own.user (not $own.dsn.secretName) -}}
{{- $wrong = append $wrong "migrations.user needs postgres.host; beside postgres.dsn set migrations.dsn.secretName" -}}
{{- end -}}
{{- else -}}
{{- if not $postgres.host -}}
{{- $wrong = append $wrong "postgres.host is empty: name the server, or the Secret with the whole DSN in postgres.dsn.secretName" -}}
{{- end -}}
{{- if not (or $password $certificate) -}}
{{- $wrong = append $wrong "postgres.password.secretName is empty: name the Secret that holds the role's password, the file that a sidecar writes in postgres.password.file, or a client certificate in postgres.tls.certificate" -}}
{{- end -}}
{{- end -}}
{{- if and $own.enabled $own.user (not (or $own.password.secretName $own.password.file $own.dsn.secretName $certificate)) -}}
{{- $wrong = append $wrong "migrations.password.secretName is empty: name the Secret that holds the password of migrations.user, or in migrations.password.file the file that a sidecar writes" -}}
{{- end -}}
{{- range $name, $from := dict "postgres.password" $postgres.password "migrations.password" $own.password -}}
{{- if and $from.secretName $from.file -}}
{{- $wrong = append $wrong (printf "%s has a Secret and a file: leave one out" $name) -}}
{{- end -}}
{{- end -}}
{{- toJson $wrong -}}
{{- end }}

{{- define "penstock.wrong.provider" -}}
{{- $v := .Values -}}
{{- $wrong := list -}}
{{- if not (regexMatch "^https?://[^/:\\s]+(:[0-9]{1,5})?(/\\S*)?$" $v.provider.baseUrl) -}}
{{- $wrong = append $wrong (printf "provider.baseUrl is %q: give the API's root with its scheme, such as https://api.openai.com/v1" $v.provider.baseUrl) -}}
{{- end -}}
{{- if and (not $v.simulator.enabled) (eq $v.provider.auth "key") (not $v.provider.apiKey.secretName) -}}
{{- $wrong = append $wrong "provider.apiKey.secretName is empty: name the Secret that holds the API key, or set provider.auth to none if the provider takes no key" -}}
{{- end -}}
{{- range $v.provider.accounts -}}
{{- if not (regexMatch "^[a-z0-9][a-z0-9-]{0,39}$" .name) -}}
{{- $wrong = append $wrong (printf "provider.accounts has the name %q: give the account's name in the lanes file, at most 40 of a-z, 0-9 and -, with no - in front" .name) -}}
{{- end -}}
{{- end -}}
{{- if and $v.webhook.enabled (not $v.webhook.secret.secretName) -}}
{{- $wrong = append $wrong "webhook.secret.secretName is empty: name the Secret that holds the webhook's whsec_... secret" -}}
{{- end -}}
{{- if eq (int $v.webhook.port) 8080 -}}
{{- $wrong = append $wrong "webhook.port is 8080, which serves metrics and probes: choose another" -}}
{{- end -}}
{{- toJson $wrong -}}
{{- end }}

{{- define "penstock.wrong.replicas" -}}
{{- $v := .Values -}}
{{- $wrong := list -}}
{{- if $v.spool.medium -}}
{{- $wrong = append $wrong (printf "spool.medium is %s: batches of gigabytes would fill it; leave it empty, the spool belongs on a disk" $v.spool.medium) -}}
{{- end -}}
{{- if and (eq $v.autoscaling.kind "keda") (not $v.autoscaling.keda.serverAddress) -}}
{{- $wrong = append $wrong "autoscaling.keda.serverAddress is empty: name the Prometheus that scrapes the service, such as http://prometheus.monitoring:9090" -}}
{{- end -}}
{{- range include "penstock.workloads" . | fromYamlArray -}}
{{- if lt (int .maxReplicas) (int .replicas) -}}
{{- $wrong = append $wrong (printf "%s has maxReplicas %d below replicas %d: raise it" .name (int .maxReplicas) (int .replicas)) -}}
{{- end -}}
{{- end -}}
{{- if and $v.metrics.serviceMonitor.enabled $v.metrics.podMonitor.enabled -}}
{{- $wrong = append $wrong "metrics.serviceMonitor and metrics.podMonitor would scrape everything twice: enable one" -}}
{{- end -}}
{{- toJson $wrong -}}
{{- end }}

{{- define "penstock.wrong.topics" -}}
{{- $topics := .Values.topics -}}
{{- $names := .Values.kafka.topics -}}
{{- $all := concat $names.requests (list $names.results $names.deadLetters $names.ledger) -}}
{{- $wrong := list -}}
{{- if not $names.requests -}}
{{- $wrong = append $wrong "kafka.topics.requests is empty: name the topics to consume" -}}
{{- end -}}
{{- if ne (len $all) (len (uniq $all)) -}}
{{- $wrong = append $wrong (printf "kafka.topics has a topic twice (%s): requests, results, deadLetters and ledger must all differ" (join ", " $all)) -}}
{{- end -}}
{{- if eq $topics.create "strimzi" -}}
{{- if not $topics.strimzi.cluster -}}
{{- $wrong = append $wrong "topics.strimzi.cluster is empty: name the Kafka resource that the topics belong to" -}}
{{- end -}}
{{- if not $topics.replicas -}}
{{- $wrong = append $wrong "topics.replicas is 0: Strimzi needs their number, 3 in production" -}}
{{- end -}}
{{- $taken := dict -}}
{{- range uniq $all -}}
{{- $object := include "penstock.topic.object" . -}}
{{- if hasKey $taken $object -}}
{{- $wrong = append $wrong (printf "the topics %s and %s would both be the KafkaTopic %s, whose name has no capitals and no _: rename one, or make them by other means than topics.create strimzi" (get $taken $object) . $object) -}}
{{- end -}}
{{- $_ := set $taken $object . -}}
{{- end -}}
{{- end -}}
{{- toJson $wrong -}}
{{- end }}
