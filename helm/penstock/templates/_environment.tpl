{{- /* A key of a Secret as a file below /etc/penstock. */ -}}
{{- define "penstock.file" -}}
{{- if .from.secretName }}
- secret:
    name: {{ .from.secretName }}
    items:
      - key: {{ .key | default .from.key }}
        path: {{ .path }}
{{- end }}
{{- end }}

{{- /* Where a secret is read: below /etc/penstock when it is a Secret's, else where something else writes it. */ -}}
{{- define "penstock.file.path" -}}
{{ ternary (printf "/etc/penstock/%s" .path) .from.file (ne .from.secretName "") }}
{{- end }}

{{- /* The lanes file, from the ConfigMap of this name. */ -}}
{{- define "penstock.lanes.file" -}}
- configMap:
    name: {{ . }}
    items:
      - key: lanes.toml
        path: lanes/lanes.toml
{{- end }}

{{- define "penstock.kafka.environment" -}}
{{- $kafka := .Values.kafka -}}
- name: PENSTOCK_KAFKA_BOOTSTRAP_SERVERS
  value: {{ join "," $kafka.bootstrapServers | quote }}
- name: PENSTOCK_KAFKA_REQUEST_TOPICS
  value: {{ join "," $kafka.topics.requests | quote }}
- name: PENSTOCK_KAFKA_RESULT_TOPIC
  value: {{ $kafka.topics.results | quote }}
- name: PENSTOCK_KAFKA_DEAD_LETTER_TOPIC
  value: {{ $kafka.topics.deadLetters | quote }}
- name: PENSTOCK_KAFKA_LEDGER_TOPIC
  value: {{ $kafka.topics.ledger | quote }}
- name: PENSTOCK_KAFKA_SECURITY_PROTOCOL
  value: {{ printf "%s%s" (ternary "SASL_" "" (ne $kafka.sasl.mechanism "")) (ternary "SSL" "PLAINTEXT" $kafka.tls.enabled) }}
{{- with $kafka.sasl.mechanism }}
- name: PENSTOCK_KAFKA_SASL_MECHANISM
  value: {{ . }}
{{- end }}
{{- with $kafka.sasl.username }}
- name: PENSTOCK_KAFKA_SASL_USERNAME
  value: {{ . | quote }}
{{- end }}
{{- if $kafka.sasl.password.secretName }}
- name: PENSTOCK_KAFKA_SASL_PASSWORD_FILE
  value: /etc/penstock/kafka/password
{{- end }}
{{- with include "penstock.file.path" (dict "from" $kafka.sasl.token "path" "kafka/token") }}
- name: PENSTOCK_KAFKA_SASL_TOKEN_FILE
  value: {{ . }}
{{- end }}
{{- if $kafka.tls.ca.secretName }}
- name: PENSTOCK_KAFKA_CA_FILE
  value: /etc/penstock/kafka/ca.crt
{{- end }}
{{- if $kafka.tls.certificate.secretName }}
- name: PENSTOCK_KAFKA_CERTIFICATE_FILE
  value: /etc/penstock/kafka/tls.crt
- name: PENSTOCK_KAFKA_KEY_FILE
  value: /etc/penstock/kafka/tls.key
{{- end }}
{{- end }}

{{- define "penstock.kafka.files" -}}
{{- $kafka := .Values.kafka -}}
{{- include "penstock.file" (dict "from" $kafka.sasl.password "path" "kafka/password") }}
{{- include "penstock.file" (dict "from" $kafka.sasl.token "path" "kafka/token") }}
{{- include "penstock.file" (dict "from" $kafka.tls.ca "path" "kafka/ca.crt") }}
{{- include "penstock.file" (dict "from" $kafka.tls.certificate "path" "kafka/tls.crt") }}
{{- include "penstock.file" (dict "from" $kafka.tls.certificate "key" $kafka.tls.certificate.privateKey "path" "kafka/tls.key") }}
{{- end }}

{{- /* Who goes to the database: the service's role, or the one of migrations where it differs. */ -}}
{{- define "penstock.postgres.role" -}}
{{- $role := pick .root.Values.postgres "user" "password" "dsn" -}}
{{- $own := .root.Values.migrations -}}
{{- if and .migrations $own.dsn.secretName -}}
{{- $role = dict "user" "" "password" $own.password "dsn" $own.dsn -}}
{{- else if and .migrations $own.user -}}
{{- $role = dict "user" $own.user "password" $own.password "dsn" (dict "secretName" "") -}}
{{- end -}}
{{ toJson $role }}
{{- end }}

{{- define "penstock.postgres.environment" -}}
{{- $postgres := .root.Values.postgres -}}
{{- $role := include "penstock.postgres.role" . | fromJson -}}
{{- if $role.dsn.secretName -}}
- name: PENSTOCK_POSTGRES_DSN_FILE
  value: /etc/penstock/postgres/dsn
{{- else -}}
{{- $tls := $postgres.tls -}}
{{- $options := list (printf "sslmode=%s" $tls.mode) -}}
{{- if $tls.ca.secretName -}}
{{- $options = append $options "sslrootcert=/etc/penstock/postgres/ca.crt" -}}
{{- else if hasPrefix "verify" $tls.mode -}}
{{- $options = append $options "sslrootcert=/etc/ssl/certs/ca-certificates.crt" -}}
{{- end -}}
{{- if $tls.certificate.secretName -}}
{{- $options = append $options "sslcert=/etc/penstock/postgres/tls.crt" -}}
{{- $options = append $options "sslkey=/etc/penstock/postgres/tls.key" -}}
{{- end -}}
- name: PENSTOCK_POSTGRES_DSN
  value: {{ printf "postgresql://%s@%s:%d/%s?%s" (urlquery $role.user) $postgres.host (int $postgres.port) (urlquery $postgres.database) (join "&" $options) | quote }}
{{- with include "penstock.file.path" (dict "from" $role.password "path" "postgres/password") }}
- name: PENSTOCK_POSTGRES_PASSWORD_FILE
  value: {{ . }}
{{- end }}
{{- end }}
{{- end }}

{{- define "penstock.postgres.files" -}}
{{- $tls := .root.Values.postgres.tls -}}
{{- $role := include "penstock.postgres.role" . | fromJson -}}
{{- if $role.dsn.secretName }}
{{- include "penstock.file" (dict "from" $role.dsn "path" "postgres/dsn") }}
{{- else }}
{{- include "penstock.file" (dict "from" $role.password "path" "postgres/password") }}
{{- end }}
{{- include "penstock.file" (dict "from" $tls.ca "path" "postgres/ca.crt") }}
{{- include "penstock.file" (dict "from" $tls.certificate "path" "postgres/tls.crt") }}
{{- include "penstock.file" (dict "from" $tls.certificate "key" $tls.certificate.privateKey "path" "postgres/tls.key") }}
{{- end }}

{{- define "penstock.provider.url" -}}
{{- if .Values.simulator.enabled -}}
http://{{ include "penstock.fullname" . }}-simulator:8090/v1
{{- else -}}
{{ .Values.provider.baseUrl }}
{{- end -}}
{{- end }}

{{- define "penstock.provider.environment" -}}
- name: PENSTOCK_PROVIDER_ACCOUNT
  value: {{ .Values.provider.account | quote }}
- name: PENSTOCK_PROVIDER_BASE_URL
  value: {{ include "penstock.provider.url" . | quote }}
{{- if .Values.simulator.enabled }}
- name: PENSTOCK_PROVIDER_API_KEY
  value: simulated
{{- else if eq .Values.provider.auth "none" }}
- name: PENSTOCK_PROVIDER_AUTH
  value: none
{{- else }}
- name: PENSTOCK_PROVIDER_API_KEY_FILE
  value: /etc/penstock/provider/api-key
{{- end }}
{{- end }}

{{- define "penstock.provider.files" -}}
{{- if not .Values.simulator.enabled }}
{{- include "penstock.file" (dict "from" .Values.provider.apiKey "path" "provider/api-key") }}
{{- end }}
{{- end }}

{{- /* The secrets of further accounts: every replica reads what the lanes file names. */ -}}
{{- define "penstock.accounts.files" -}}
{{- range .Values.provider.accounts }}
{{- include "penstock.file" (dict "from" . "key" (default "api-key" .key) "path" (printf "accounts/%s/api-key" .name)) }}
{{- if .webhookKey }}
{{- include "penstock.file" (dict "from" . "key" .webhookKey "path" (printf "accounts/%s/webhook-secret" .name)) }}
{{- end }}
{{- end }}
{{- end }}

{{- /* A number without an exponent, anything else as it is. */ -}}
{{- define "penstock.scalar" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) -}}{{ printf "%.0f" . }}{{- else -}}{{ . }}{{- end -}}
{{- end }}

{{- define "penstock.settings.environment" -}}
{{- range $section, $value := .Values.settings }}
{{- if kindIs "map" $value }}
{{- range $name, $one := $value }}
- name: {{ printf "PENSTOCK_%s_%s" $section $name | upper }}
  value: {{ include "penstock.scalar" $one | quote }}
{{- end }}
{{- else }}
- name: {{ printf "PENSTOCK_%s" $section | upper }}
  value: {{ include "penstock.scalar" $value | quote }}
{{- end }}
{{- end }}
{{- end }}

{{- /* All files that a replica reads. */ -}}
{{- define "penstock.workload.files" -}}
{{- include "penstock.kafka.files" .root }}
{{- include "penstock.postgres.files" (dict "root" .root "migrations" false) }}
{{- if .provider }}
{{- include "penstock.provider.files" .root }}
{{- end }}
{{- include "penstock.accounts.files" .root }}
{{- if .root.Values.webhook.enabled }}
{{- include "penstock.file" (dict "from" .root.Values.webhook.secret "path" "webhook/secret") }}
{{- end }}
{{- end }}
